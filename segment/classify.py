"""Zero-shot classification by the class token, with the outliers as they are and purified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.base import Detector
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.images.feed import (
    Loaded,
    Loader,
    first_alike,
    in_batches,
    list_images,
    opened_ahead,
    progress_bar,
    stacked,
)
from diagnostics.images.image_classes import labels_by_image, spelled
from diagnostics.memory import check_memory
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.base import Purifier
from diagnostics.studies.blocks import none_readable
from diagnostics.taps import Tap, resolve_layer
from segment.encoders.layerwise import fitted_layerwise
from segment.method import TextFeatures
from segment.segmenter import IMAGES_TO_FIT

STOCK = "stock"


# The options of a run that classification heeds.
USES = frozenset({"size", "batch", "layers", "strict", "progress"})


def classify(
    backbone: Backbone,
    images: Any,
    text: TextFeatures,
    *,
    detector: Detector | str = "som",
    purifiers: Sequence[Purifier | str] = (),
    truth: Mapping[str, str] | None = None,
    top: int = 5,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The likeliest classes of each image by what the model pools for it; and the images left out.

    With a text tower that is the model's own output; with a classifier what enters it, compared with the rows of the
    head by the cosine, so biases and lengths of rows have no part in it.
    One row for each image, way (`stock`, and each purifier's spec) and rank 1…`top`: name, way, rank, class,
    probability (`class_probabilities`, best of a class's queries), and `right` where `truth`
    knows the image: class names by image, as diagnostics.images.image_classes.labels_by_image matches them.
    A purifier purifies what `detector` marks after the blocks `layers` (all by default), on the way, so later blocks
    see it: SFP's side-effect table (supplement, Table 3) with `som` and `sfp-sum`. A detector that learns does so on
    the first images, layer by layer. Keywords, or `options`, are those of RunOptions: `size`, `batch`, `layers`,
    `strict`, `progress`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    text : TextFeatures
        The words, from `ao.text_features`.
    detector : Detector or str
        Whose outliers are replaced.
    purifiers : list of Purifier or str
        A way is added for each.
    truth : dict of str to str, or None
        Class by image: name in the run, file name, or that without suffix.
    top : int
        Ranks that are kept, at least 1.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as far
        as they apply.

    Returns
    -------
    (pandas.DataFrame, dict of str to str)
        Answers, a row for each image, way and rank; and the reason by name of each image left out.

    Raises
    ------
    ValueError
        For layers, parts or truth that do not fit, and if no image can be read.

    Source
    ------
    SFP (Jin et al., ICCV 2025), supplement, Table 3.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("pocket")
    >>> text = ao.text_features(backbone, "zebra, tiger, grass", "plain", cache=None, progress=False)
    >>> answers, left_out = ao.classify(backbone, ao.Shapes(scenes=1)[0].image, text, top=1)
    >>> len(answers), answers["way"][0]
    (1, 'stock')
    """
    options = run_options("classify", options, keywords, uses=USES)
    part = DETECTORS.build(detector) if isinstance(detector, str) else detector
    listed = list_images(images, options.size_for(backbone.native_size), strict=options.strict)
    check_memory(backbone, listed, [part] if purifiers else [], device=str(backbone.device))
    names = list(text.names)
    answers = None if truth is None else _answers(truth, names, [image.name for image in listed])
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=options.strict)
    if purifiers and part.learns:
        part = _fitted(part, backbone, loader, options.layers)
    ways = _ways(part, purifiers, options.layers)

    def work(batch: list[Loaded]) -> dict[str, Tensor]:
        pixels = stacked(batch).to(backbone.device)
        with torch.no_grad():
            return {
                way: class_probabilities(backbone.pool_features(backbone.trunk(pixels, tap=tap)), text).cpu()
                for way, tap in ways.items()
            }

    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with progress_bar(f"classify {backbone.spec}", len(listed), shown=options.progress) as bar:
        for block, loaded in opened_ahead(options.blocks(len(listed)), loader):
            left_out |= {listed[item.number].name: item.reason for item in loaded if item.reason}
            for batch, by_way in in_batches(loaded, options.batch, work, advice="choose a smaller --size"):
                batch_names = [listed[item.number].name for item in batch]
                for way, probabilities in by_way.items():
                    rows += _rows(way, probabilities, batch_names, names, top, answers)
            bar.update(len(block))
    if not rows:
        raise none_readable(len(listed), left_out)
    return pd.DataFrame(rows), left_out


def _fitted(detector: Detector, backbone: Backbone, loader: Loader, layers: Sequence[int] | None) -> Detector:
    """A detector that learns, made ready for each layer on the first images."""
    pixels = first_alike(loader, IMAGES_TO_FIT).to(backbone.device)
    every = range(1, backbone.depth + 1) if layers is None else layers
    with torch.no_grad():
        return fitted_layerwise(detector, backbone, pixels, [resolve_layer(layer, backbone.depth) for layer in every])


def _ways(
    detector: Detector, purifiers: Sequence[Purifier | str], layers: Sequence[int] | None
) -> dict[str, Tap | None]:
    """Name of each way through the model -> what changes the tokens on it."""
    ways: dict[str, Tap | None] = {STOCK: None}
    for purifier in purifiers:
        part = PURIFIERS.build(purifier) if isinstance(purifier, str) else purifier
        ways[str(purifier)] = PurifyAt(
            detector=detector, purifier=part, layers=None if layers is None else tuple(layers)
        )
    return ways


def _rows(
    way: str,
    probabilities: Tensor,
    images: Sequence[str],
    classes: Sequence[str],
    top: int,
    answers: Mapping[str, str] | None,
) -> Iterator[dict[str, Any]]:
    """The table's rows of one way and batch: probabilities (B, C) of the images named."""
    best = probabilities.sort(dim=1, descending=True, stable=True)
    for place, image in enumerate(images):
        for rank in range(min(top, len(classes))):
            answer = classes[int(best.indices[place, rank])]
            row = {"name": image, "way": way, "rank": rank + 1, "class": answer}
            row["probability"] = float(best.values[place, rank])
            if answers is not None:
                row["right"] = answers[image] == answer if image in answers else None
            yield row


def _answers(truth: Mapping[str, str], names: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """Image -> its class as `names` spell it, for the images that the truth knows."""
    labels = labels_by_image(images, truth)
    answers = {image: names[spelled(image, label, names)] for image, label in labels.items()}
    if not answers:
        example = f", such as `{next(iter(truth))}`" if truth else ""
        raise ValueError(
            f"the truth should name images as the run does, such as `{images[0]}`; none of its {len(truth)} names "
            f"is among them{example}."
        )
    return answers


def class_probabilities(pooled: Tensor, text: TextFeatures) -> Tensor:
    """softmax(scale · cosine) over the queries, the best of each class's: (B, E) -> (B, C).

    A model that was trained with the sigmoid loss (SigLIP) has a bias, and its own probability for each text:
    σ(scale · cosine + bias), which don't sum to 1. Source: Zhai et al., Sigmoid loss for language image pre-training,
    2023, Algorithm 1.
    """
    features = text.features.to(pooled.device, torch.float32)
    cosines = F.normalize(pooled.float(), dim=-1) @ features.mT
    logits = text.logits(cosines)
    probabilities = logits.softmax(dim=-1) if text.logit_bias is None else logits.sigmoid()
    owners = text.owners.to(pooled.device).expand(len(pooled), -1)
    return torch.zeros(len(pooled), len(text.names), device=pooled.device).scatter_reduce(
        1, owners, probabilities, "amax", include_self=False
    )


def accuracy_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each way over the images whose truth is known: way as index; images, top1 and topK.

    Parameters
    ----------
    answers : pandas.DataFrame
        The first value that `ao.classify` gives, called with `truth`.

    Returns
    -------
    pandas.DataFrame
        Index `way`; `images`, the number counted, and `top1` and `topK`, shares in [0, 1].

    Examples
    --------
    >>> import pandas as pd
    >>> import attention_outliers as ao
    >>> answers = pd.DataFrame({"name": ["a", "b"], "way": "stock", "rank": 1, "right": [True, False]})
    >>> float(ao.accuracy_table(answers).loc["stock", "top1"])
    0.5
    """
    known = answers[answers["right"].notna()] if "right" in answers else answers.iloc[:0]
    rows = []
    for way, part in known.groupby("way", sort=False):
        most = int(part["rank"].max())
        by_image = part.assign(right=part["right"].astype(bool)).groupby("name")
        rows.append(
            {
                "way": way,
                "images": by_image.ngroups,
                "top1": float(part.loc[part["rank"] == 1, "right"].astype(bool).mean()),
                f"top{most}": float(by_image["right"].any().mean()),
            }
        )
    return pd.DataFrame(rows).set_index("way") if rows else pd.DataFrame(rows)
