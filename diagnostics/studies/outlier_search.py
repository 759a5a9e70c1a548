"""Where outliers sit: a table with a row for each patch that a detector marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex, Unpack

import numpy as np
import pandas as pd
import torch

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector
from diagnostics.images.feed import Loaded, stacked
from diagnostics.layout import Layout
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.blocks import none_readable, reasons_of, warn_left_out, work_on_blocks
from diagnostics.studies.scoring import Fitted, check_finite, prepare_run, ready_detectors
from diagnostics.taps import EachLayer, Recording


def find_outliers(
    backbone: Backbone,
    images: Any,
    detector: str | Detector = "relative-norm",
    *,
    layer: int | Sequence[int] | None = -1,
    fitted: Fitted | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> pd.DataFrame:
    """Which patches are outliers: a row for each that the detector marks by its own threshold.

    One forward pass an image serves all layers.

    Parameters
    ----------
    backbone
        The model, from `load_backbone`.
    images
        Files, folders, globs, PIL images or arrays (h, w, 3) uint8, one or many.
    detector
        A detector or its spec, such as `lof` or `relative-norm:threshold=5`; see DETECTORS.
    layer
        Layer 1…L (or negative, -1 the last) whose block output is searched; several; or None for all.
    fitted
        What detectors learned, from `fit_detectors`; one that learns and is not in it does so on the first images.
    options, **keywords
        Options of the run: `size`, `batch`, `strict`, `progress`; see RunOptions.

    Returns
    -------
    pandas.DataFrame
        Rows in the order of images, layers, tokens; none for an image without outliers. Columns: `image` (its name),
        `layer` (1…L), `row` and `col` of the patch (from 0, top left), `token` (place in the sequence from 0, class
        token and registers included), `score` (unit of the detector, higher is more outlying), `norm` (L2 norm of the
        patch, model units), `ratio` (norm over the image's median patch norm). `attrs` has `backbone`, `detector`,
        `size`, `images` (names of all that were searched) and `left_out` (name -> why it could not be read; also
        warned of).

    Raises
    ------
    ValueError
        For an unknown detector or layer, a detector that can't run on this model, NaN or infinite values, and where
        no image can be read.

    Source
    ------
    Outliers as tokens of high norm: Darcet et al. 2024, arXiv:2309.16588; each detector names its own.

    Examples
    --------
    >>> import numpy as np, attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> image = np.full((64, 64, 3), 128, np.uint8)
    >>> table = ao.find_outliers(backbone, image, layer=[5, 6])
    >>> table.loc[table["row"] < 8, ["layer", "row", "col", "token"]].values.tolist()
    [[6, 0, 8, 9], [6, 6, 3, 88]]
    >>> per_image = table.groupby("image").size().reindex(table.attrs["images"], fill_value=0)
    >>> int(per_image["image-0001"])
    7
    """
    options = run_options("find_outliers", options, keywords, uses=("size", "batch", "strict", "progress"))
    layers = [layer] if isinstance(layer, SupportsIndex) else layer
    run = prepare_run(backbone, images, [detector], options.changed(layers=layers))
    (name,) = run.detectors
    ready = ready_detectors(backbone, run, fitted or {})
    by_layer = {at: ready[name, at] for at in run.layers}

    def work(batch: list[Loaded]) -> list[pd.DataFrame]:
        pixels, names = stacked(batch), [run.listed[image.number].name for image in batch]
        search = _Search(by_layer, backbone.layout(pixels), [image.number for image in batch], names)
        with torch.no_grad():
            backbone.trunk(pixels, stop=run.layers[-1], tap=search.tap)
        return search.tables

    tables, opened, left_out = [], set[int](), dict[str, str]()
    for block in work_on_blocks(run.loader, work, options, title=f"find outliers {backbone.spec}"):
        for batch, batch_tables in block.batches:
            tables += batch_tables
            opened |= {image.number for image in batch}
        left_out |= reasons_of(block.images, run.listed)
    if not opened:
        raise none_readable(len(run.listed), left_out)
    warn_left_out(left_out)
    table = pd.concat(tables, ignore_index=True).sort_values(["image", "layer", "token"], ignore_index=True)
    table["image"] = np.array([image.name for image in run.listed], dtype=object)[table["image"]]
    searched = [image.name for number, image in enumerate(run.listed) if number in opened]
    table.attrs = {"backbone": backbone.spec, "detector": name, "size": str(run.size)}
    table.attrs |= {"images": searched, "left_out": left_out}
    return table


class _Search:
    """Marks the patches of one batch, layer by layer: a table of each layer, with the images' numbers."""

    def __init__(
        self, detectors: Mapping[int, Detector], layout: Layout, numbers: Sequence[int], names: Sequence[str]
    ) -> None:
        self.detectors, self.layout, self.numbers, self.names = detectors, layout, np.array(numbers), names
        self.tap = EachLayer({layer: detector.needs for layer, detector in detectors.items()}, self._look)
        self.tables: list[pd.DataFrame] = []

    def _look(self, layer: int, recording: Recording) -> None:
        scores, mask = self.detectors[layer](recording, self.layout)
        check_finite(scores, self.names, f"scores of `{self.detectors[layer]}`", layer)
        norms = token_norms(self.layout.patches(recording["block_out"]).float())
        values = {"score": scores, "norm": norms, "ratio": norms / median_norm(norms)[:, None]}
        images, patches = (places.cpu().numpy() for places in mask.nonzero(as_tuple=True))
        rows, cols = np.divmod(patches, self.layout.grid.cols)
        columns = {"image": self.numbers[images], "layer": layer, "row": rows, "col": cols}
        columns["token"] = self.layout.prefix + patches
        columns |= {name: value[mask].cpu().double().numpy() for name, value in values.items()}
        self.tables.append(pd.DataFrame(columns))
