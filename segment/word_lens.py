"""A word lens: which word each patch says in each layer, through the model's last norm and projection."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr

from diagnostics.backbones.base import Backbone
from diagnostics.images.feed import Loaded, Loader, list_images, stacked
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.blocks import none_readable, reasons_of, warn_left_out, work_on_blocks
from diagnostics.studies.scoring import block_layers
from diagnostics.taps import EachLayer, Recording
from segment.method import TextFeatures


def word_lens(
    backbone: Backbone,
    images: Any,
    text: TextFeatures,
    *,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> xr.Dataset:
    """Which word each patch says in each layer: the best cosine between its projected token and the words.

    Tokens of a middle layer go through the model's last norm and projection, which were trained for the last layer
    alone: early layers say little.

    Parameters
    ----------
    backbone : Backbone
        A model with a text tower, or with a classifier whose rows are the words.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model.
    text : TextFeatures
        The words, from `ao.text_features`.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`: `size`, `batch`, `layers`, `strict`, `progress`.

    Returns
    -------
    xarray.Dataset
        `word` (image, layer, row, col), the number of the class, -1 outside an image; `cosine`, in [-1, 1], that of its
        best query; attribute `names`, the classes.

    Raises
    ------
    ValueError
        For words of another space than the model's, and if no image can be read.

    Source
    ------
    nostalgebraist 2020, «Interpreting GPT: the logit lens», for language models; through a text tower it is ours.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("pocket")
    >>> text = ao.text_features(backbone, "zebra, tiger, grass", "plain", cache=None, progress=False)
    >>> lens = ao.word_lens(backbone, ao.Shapes(scenes=1)[0].image, text, layers=[6, 12])
    >>> lens["word"].dims, lens.attrs["names"]
    (('image', 'layer', 'row', 'col'), ['zebra', 'tiger', 'grass'])
    """
    options = run_options("word_lens", options, keywords, uses=("size", "batch", "layers", "strict", "progress"))
    layers = block_layers(options.layers, backbone.depth)
    listed = list_images(images, options.size_for(backbone.native_size), strict=options.strict)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=options.strict)
    words = F.normalize(text.features.to(backbone.device).float(), dim=-1)
    owners = text.owners.to(backbone.device)

    def work(batch: list[Loaded]) -> tuple[np.ndarray, np.ndarray]:
        pixels = stacked(batch)
        layout = backbone.layout(pixels)
        maps: list[tuple[torch.Tensor, torch.Tensor]] = []

        def look(layer: int, recording: Recording) -> None:
            patches = layout.patches(backbone.project(recording["block_out", layer])).float()
            if patches.shape[-1] != words.shape[-1]:
                raise ValueError(
                    f"the words have {words.shape[-1]} features, and projected patches of `{backbone.spec}` have "
                    f"{patches.shape[-1]}. Make the words' features with this backbone."
                )
            cosines, best = (F.normalize(patches, dim=-1) @ words.T).max(dim=-1)
            maps.append((layout.to_map(owners[best]), layout.to_map(cosines)))

        with torch.no_grad():
            backbone.trunk(pixels, stop=layers[-1], tap=EachLayer(dict.fromkeys(layers, ()), look))
        classes, cosines = (torch.stack(layer_maps, dim=1).cpu().numpy() for layer_maps in zip(*maps, strict=True))
        return classes, cosines

    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    left_out: dict[str, str] = {}
    for block in work_on_blocks(loader, work, options, title=f"word lens {backbone.spec}"):
        left_out |= reasons_of(block.images, listed)
        for batch, (classes, cosines) in block.batches:
            results |= {image.number: (classes[at], cosines[at]) for at, image in enumerate(batch)}
    if not results:
        raise none_readable(len(listed), left_out)
    warn_left_out(left_out)
    return _dataset(results, [listed[number].name for number in sorted(results)], layers, list(text.names))


def _dataset(
    results: dict[int, tuple[np.ndarray, np.ndarray]], names: list[str], layers: list[int], words: list[str]
) -> xr.Dataset:
    """The maps of all images on the grid that they share."""
    rows, cols = (max(classes.shape[side] for classes, _ in results.values()) for side in (1, 2))
    word = np.full((len(results), len(layers), rows, cols), -1, np.int64)
    cosine = np.full(word.shape, np.nan, np.float32)
    for place, number in enumerate(sorted(results)):
        classes, cosines = results[number]
        part = (place, slice(None), slice(classes.shape[1]), slice(classes.shape[2]))
        word[part], cosine[part] = classes, cosines
    dims = ("image", "layer", "row", "col")
    return xr.Dataset(
        {
            "word": (dims, word, {"units": "1", "long_name": "number of the best word"}),
            "cosine": (dims, cosine, {"units": "1", "long_name": "cosine with the best word"}),
        },
        {"image": np.array(names, dtype=object), "layer": layers},
        {"names": words},
    )
