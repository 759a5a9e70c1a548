"""Label maps drawn over their images, as files beside the label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from figures.figure_files import write
from figures.maps.label_maps import label_map, method_sheet
from segment.run import SegmentRun
from segment.segmenter import Segmentation


def write_overlays(run: SegmentRun, found: Sequence[Segmentation]) -> None:
    """The overlay of each method, and one sheet where there are several."""
    first = found[0]
    image, stem = np.asarray(first.image), run.stems[first.name]
    for one in found:
        path = run.folder(one.method) / f"{stem}.overlay.png"
        figure = label_map(image, one.labels, one.names, background=one.background, title=f"{one.name}: {one.method}")
        write(figure, path, metadata={"Source": one.method})
    if len(found) > 1:
        labels = {one.method: one.labels for one in found}
        sheet = method_sheet(image, labels, first.names, background=first.background, title=first.name)
        write(sheet, run.out / "sheets" / f"{stem}.png", metadata={"Source": ", ".join(run.methods)})
