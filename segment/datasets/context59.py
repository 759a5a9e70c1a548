"""`context59`: PASCAL Context without its background."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.codes import IGNORE
from segment.datasets.context_layout import IMAGES, context_listing, context_miniature
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk


@DatasetFacts(classes=59, images=IMAGES, split="val", usual=(500, 375), miniature=context_miniature)
def context59(*, root: str | Path) -> OnDisk:
    """PASCAL Context val, frequent classes only: 59 classes, 5104 images; background is not scored."""
    return OnDisk(
        title="PASCAL Context val, 59 classes",
        names=class_names("context"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=context_listing(root, {0: IGNORE} | {label: label - 1 for label in range(1, 60)}),
    )
