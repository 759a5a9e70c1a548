"""How good label maps are: exact counts, and the numbers made from them."""

from segment.evaluation.metrics.bootstrap import Interval, Resampled, paired_difference
from segment.evaluation.metrics.boundary import boundary_counts
from segment.evaluation.metrics.confusion import Counts, confusion_matrix, counts_of
from segment.evaluation.metrics.matching import best_matching, matched
from segment.evaluation.metrics.summary import CONVENTIONS, Convention, Summary, summarize

__all__ = [
    "CONVENTIONS",
    "Convention",
    "Counts",
    "Interval",
    "Resampled",
    "Summary",
    "best_matching",
    "boundary_counts",
    "confusion_matrix",
    "counts_of",
    "matched",
    "paired_difference",
    "summarize",
]
