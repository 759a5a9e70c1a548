"""Tables of the papers: what was published, and how it is made again."""

from attention_outliers.papers.experiment import Column, Experiment, Place, Row
from attention_outliers.papers.experiment_list import experiments, experiments_named
from attention_outliers.papers.printed import Published, published

__all__ = ["Column", "Experiment", "Place", "Published", "Row", "experiments", "experiments_named", "published"]
