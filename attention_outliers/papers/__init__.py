"""Tables of the papers: what was published, and how it is made again."""

from segment.experiments.catalogue import experiments, experiments_named
from segment.experiments.experiment import Column, Experiment, Place, Row
from segment.experiments.published import Published, published

__all__ = ["Column", "Experiment", "Place", "Published", "Row", "experiments", "experiments_named", "published"]
