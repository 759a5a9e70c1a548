"""LaVG: cut the image into masks first, then name each mask."""

from __future__ import annotations

from segment.encoders.lazy_grounding import LazyGrounding
from segment.method import Method, Paper
from segment.scorers.mask_mean import MaskMean

METHOD = Method(
    encoder=LazyGrounding(),
    scorer=MaskMean(),
    paper=Paper(title="LaVG", venue="ECCV 2024", arxiv="2408.04961", code="dahyun-kang/lavg 2db88e5"),
    summary="SCLIP's features averaged over masks that normalized cuts find among DINO's keys",
    page="lavg",
    departures=(
        "Masks are cut in each window that the method sees, of 640 pixels on its longer side, aspect kept; the release "
        "cuts the whole image, squashed to 640 x 640. windows=whole cuts the whole image.",
        "No conditional random field refines the masks, and so none is dropped that it would change by more than half.",
        "The release looks for eigenvectors from a random start and does not repeat itself; here they are exact.",
        "On VOC21 the release gives the foreground words of the remainder the window's lowest score; here -1.",
    ),
)
