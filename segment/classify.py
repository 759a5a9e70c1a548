"""Zero-shot classification by the class token, with the outliers as they are and purified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

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
    size_for,
    stacked,
)
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.base import Purifier
from diagnostics.taps import Tap, resolve_layer
from segment.encoders.layerwise import fitted_layerwise
from segment.method import TextFeatures
from segment.segmenter import IMAGES_TO_FIT

STOCK = "stock"


def classify(
    backbone: Backbone,
    images: Any,
    text: TextFeatures,
    *,
    detector: Detector | str = "som",
    purifiers: Sequence[Purifier | str] = (),
    layers: Sequence[int] | None = None,
    truth: Mapping[str, str] | None = None,
    top: int = 5,
    size: str | None = None,
    batch: int = 8,
    strict: bool = False,
    progress: bool = False,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The likeliest classes of each image by what the model pools for it; and the images left out.

    With a text tower that is the model's own output; with a classifier what enters it, compared with the rows of the
    head by the cosine, so biases and lengths of rows have no part in it.
    One row for each image, way (`stock`, and each purifier's spec) and rank 1…`top`: name, way, rank, class,
    probability (softmax of the trained scale times the cosine, best of a class's queries), and `right` where `truth`
    knows the image: class names by the image's name in the run, its file's name, or that without suffix.
    A purifier purifies what `detector` marks after the blocks `layers` (all by default), on the way, so later blocks
    see it: SFP's side-effect table (supplement, Table 3) with `som` and `sfp-sum`. A detector that learns does so on
    the first images, layer by layer.
    """
    found_detector = DETECTORS.build(detector) if isinstance(detector, str) else detector
    listed = list_images(images, size_for(backbone, size), strict=strict)
    names = list(text.names)
    right = {} if truth is None else _answers(truth, names, [image.name for image in listed])
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=strict)
    if purifiers and found_detector.learns:
        pixels = first_alike(loader, IMAGES_TO_FIT).to(backbone.device)
        chosen = range(1, backbone.depth + 1) if layers is None else layers
        with torch.no_grad():
            found_detector = fitted_layerwise(
                found_detector, backbone, pixels, [resolve_layer(layer, backbone.depth) for layer in chosen]
            )
    ways: dict[str, Tap | None] = {STOCK: None}
    for purifier in purifiers:
        part = PURIFIERS.build(purifier) if isinstance(purifier, str) else purifier
        ways[str(purifier)] = PurifyAt(
            detector=found_detector, purifier=part, layers=None if layers is None else tuple(layers)
        )
    blocks = [range(start, min(start + batch, len(listed))) for start in range(0, len(listed), batch)]
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}

    def work(some: list[Loaded]) -> dict[str, Tensor]:
        pixels = stacked(some).to(backbone.device)
        with torch.no_grad():
            return {
                way: class_probabilities(backbone.pool_features(backbone.trunk(pixels, tap=tap)), text).cpu()
                for way, tap in ways.items()
            }

    with progress_bar(f"classify {backbone.spec}", len(listed), shown=progress) as bar:
        for block, loaded in opened_ahead(blocks, loader):
            left_out |= {listed[item.number].name: item.reason for item in loaded if item.reason}
            for some, by_way in in_batches(loaded, batch, work, advice="choose a smaller --size"):
                for way, probabilities in by_way.items():
                    best = probabilities.sort(dim=1, descending=True, stable=True)
                    for place, item in enumerate(some):
                        name = listed[item.number].name
                        for rank in range(min(top, len(names))):
                            answer = names[int(best.indices[place, rank])]
                            row = {"name": name, "way": way, "rank": rank + 1, "class": answer}
                            row["probability"] = float(best.values[place, rank])
                            if truth is not None:
                                row["right"] = right[name] == answer if name in right else None
                            rows.append(row)
            bar.update(len(block))
    return pd.DataFrame(rows), left_out


MOST_NAMES = 10  # in an error


def _answers(truth: Mapping[str, str], names: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """Image -> its class as `names` spell it, for the images that the truth knows."""
    spelt = {name.casefold(): name for name in names}
    some = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    found: dict[str, str] = {}
    for image in images:
        path = PurePosixPath(image)
        answer = next((truth[name] for name in (image, path.name, path.stem) if name in truth), None)
        if answer is None:
            continue
        if answer.casefold() not in spelt:
            raise ValueError(f"the truth of `{image}` should be one of the classes {some}; got `{answer}`.")
        found[image] = spelt[answer.casefold()]
    if not found:
        given = f", such as `{next(iter(truth))}`" if truth else ""
        raise ValueError(
            f"the truth should name images as the run does, such as `{images[0]}`; none of its {len(truth)} names "
            f"is among them{given}."
        )
    return found


def class_probabilities(pooled: Tensor, text: TextFeatures) -> Tensor:
    """softmax(scale · cosine) over the queries, the best of each class's: (B, E) -> (B, C)."""
    features = text.features.to(pooled.device, torch.float32)
    cosines = F.normalize(pooled.float(), dim=-1) @ features.mT
    probabilities = (text.logit_scale * cosines).softmax(dim=-1)
    owners = text.owners.to(pooled.device).expand(len(pooled), -1)
    return torch.zeros(len(pooled), len(text.names), device=pooled.device).scatter_reduce(
        1, owners, probabilities, "amax", include_self=False
    )


def accuracy_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each way over the images whose truth is known: way as index; images, top1 and topK."""
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
