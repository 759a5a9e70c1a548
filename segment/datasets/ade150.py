"""`ade150`: the scene parsing benchmark of ADE20K."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import Arrangement, find
from segment.datasets.codes import IGNORE, as_they_are, one_less
from segment.datasets.facts import DatasetFacts, Miniature
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk

COUNT, IMAGES = 150, 2000


def miniature(mini: Miniature) -> None:
    """Three images as the archive of the benchmark unpacks."""
    for number, values in enumerate(({0, 1, 150}, {2, 13}, {0, 77})):
        name = f"ADE_val_0000000{number + 1}"
        mini.image(f"ADEChallengeData2016/images/validation/{name}.jpg")
        mini.mask(f"ADEChallengeData2016/annotations/validation/{name}.png", name, values)


@DatasetFacts(classes=COUNT, images=IMAGES, split="validation", usual=(683, 512), miniature=miniature)
def ade150(*, root: str | Path) -> OnDisk:
    """ADE20K validation of 2016: 150 classes, 2000 images; «other» is not scored.

    Read from annotations with 0…150, or from their copies moved down by one (`annotations_detectron2`).
    """
    raw = one_less("ADE labels (0 other, 1…150 classes)", COUNT)
    moved = as_they_are("ADE labels moved down by one (255 other)", COUNT, ignored=(255,))
    arrangements = [
        Arrangement(images="images/validation", masks="annotations/validation", codes=raw),
        Arrangement(images="images/validation", masks="annotations_detectron2/validation", codes=moved),
        Arrangement(images="images", masks="annotations", codes=raw),
    ]
    return OnDisk(
        title="ADE20K validation, 150 classes",
        names=class_names("ade"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=find(root, arrangements, title="ADE20K (2016)", below=("", "ADEChallengeData2016", "sampleData")),
    )
