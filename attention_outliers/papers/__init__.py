"""Tables of the papers: what was published, and how it is made again."""

from attention_outliers.papers.experiment import Column, Experiment, Row, TableCell
from attention_outliers.papers.experiment_list import experiments, experiments_named
from attention_outliers.papers.printed import Published, published

__all__ = ["Column", "Experiment", "Published", "Row", "TableCell", "experiments", "experiments_named", "published"]
