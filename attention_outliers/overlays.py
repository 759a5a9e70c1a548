"""Label maps drawn over their images, as files beside the label maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diagnostics.below import below
from figures.figure_files import write
from figures.maps.label_maps import label_map, method_sheet
from segment.run import SegmentRun
from segment.segmenter import Segmentation

# Pixels of the longer side of what is drawn: several times what a figure has. Our choice.
DRAWN = 4096


def write_overlays(run: SegmentRun, segmentations: Sequence[Segmentation]) -> None:
    """The overlay of each method, and one sheet where there are several; of a large image every so many pixels."""
    first = segmentations[0]
    step = -(-max(first.image.size) // DRAWN)
    image, stem = np.asarray(first.image.reduce(step) if step > 1 else first.image), run.stems[first.name]
    for each in segmentations:
        path = run.file(each.method, f"{stem}.overlay.png")
        title = f"{each.name}: {each.method}"
        figure = label_map(image, each.labels[::step, ::step], each.names, background=each.background, title=title)
        write(figure, path, metadata={"Source": each.method})
    if len(segmentations) > 1:
        labels = {each.method: each.labels[::step, ::step] for each in segmentations}
        sheet = method_sheet(image, labels, first.names, background=first.background, title=first.name)
        write(sheet, below(run.out, f"sheets/{stem}.png"), metadata={"Source": ", ".join(run.methods)})


def total_areas(run: SegmentRun, *, overlays: bool) -> tuple[dict[str, Any], int]:
    """Goes through the run: the areas of the classes (C,), summed over images, by method, and the number of images.

    With `overlays`, each image's are written as it is done.
    """
    areas: dict[str, Any] = dict.fromkeys(run.methods, 0)
    count = 0
    for segmentations in run:
        if overlays:
            write_overlays(run, segmentations)
        for segmentation in segmentations:
            areas[segmentation.method] = areas[segmentation.method] + segmentation.areas
        count += 1
    return areas, count
