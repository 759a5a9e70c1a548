"""Label maps drawn over their images, as files beside the label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diagnostics.below import below
from figures.figure_files import write
from figures.maps.label_maps import label_map, method_sheet
from segment.run import SegmentRun
from segment.segmenter import Segmentation


def write_overlays(run: SegmentRun, segmentations: Sequence[Segmentation]) -> None:
    """The overlay of each method, and one sheet where there are several."""
    first = segmentations[0]
    image, stem = np.asarray(first.image), run.stems[first.name]
    for each in segmentations:
        path = run.file(each.method, f"{stem}.overlay.png")
        title = f"{each.name}: {each.method}"
        figure = label_map(image, each.labels, each.names, background=each.background, title=title)
        write(figure, path, metadata={"Source": each.method})
    if len(segmentations) > 1:
        labels = {each.method: each.labels for each in segmentations}
        sheet = method_sheet(image, labels, first.names, background=first.background, title=first.name)
        write(sheet, below(run.out, f"sheets/{stem}.png"), metadata={"Source": ", ".join(run.methods)})
