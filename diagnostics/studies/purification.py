"""What purifying the marked tokens does: to the similarity of patches, to the class token, to what the model says.

One stock forward an image serves all layers and purifiers; where later blocks are to see the purified tokens, only the
blocks after the purified layer run again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector
from diagnostics.images import Size
from diagnostics.images.feed import Loaded, Loader, in_batches, label_source, opened_ahead, progress_bar, stacked
from diagnostics.images.image_classes import classes_of
from diagnostics.layout import Layout
from diagnostics.measures.auc import PAIRS_AT_ONCE, pair_auc
from diagnostics.measures.entropy import normalized_entropy
from diagnostics.measures.norms import norm_ratio, token_norms
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.base import Purifier
from diagnostics.studies.scoring import Fitted, check_finite, prepared, ready_detectors
from diagnostics.taps import EachLayer, Recording

MODES = ("in place", "propagated")
# Share of the bootstrap's means that lies in the interval. Our choice.
CONFIDENCE = 0.95
# Our choice; Radford et al. 2021, arXiv:2103.00020, Sec 3.1.4, have the same words with a full stop.
PROMPT = "a photo of a {}"

# (B, T, D) tokens of the last layer -> (B) numbers of classes
Classifier = Callable[[Tensor], Tensor]


class _MarkedLayers:
    """What detectors mark in their layers during one forward pass, beside the block outputs that they marked.

    `detectors` by layer, 1…L. `tokens` (B, T, D), `scores` (B, N) and `masks` (B, N) bool go by layer too.
    """

    def __init__(self, detectors: Mapping[int, Detector], layout: Layout) -> None:
        self.detectors, self.layout = detectors, layout
        self.tap = EachLayer({layer: detector.needs for layer, detector in detectors.items()}, self._look)
        self.tokens: dict[int, Tensor] = {}
        self.scores: dict[int, Tensor] = {}
        self.masks: dict[int, Tensor] = {}

    def _look(self, layer: int, recording: Recording) -> None:
        self.tokens[layer] = recording["block_out"]
        self.scores[layer], self.masks[layer] = self.detectors[layer](recording, self.layout)


@dataclass(frozen=True)
class _Run:
    """What all batches of a run share. Detectors by layer; classifiers by the name of their column."""

    backbone: Backbone
    spec: str
    detectors: Mapping[int, Detector]
    purifiers: Mapping[str, Purifier]
    classifiers: Mapping[str, Classifier]

    def measure(self, images: Tensor, labels: Tensor | None, names: Sequence[str]) -> list[pd.DataFrame]:
        """A table for each layer and purifier, with a row for each image, of these names."""
        layout = self.backbone.layout(images)
        marked = _MarkedLayers(self.detectors, layout)
        last = self.backbone.trunk(images, tap=marked.tap)
        for layer, scores in marked.scores.items():
            check_finite(scores, names, f"`{self.spec}` found", layer)
        for layer, tokens in (*marked.tokens.items(), (self.backbone.depth, last)):
            check_finite(tokens, names, f"`{self.backbone.spec}` makes", layer)
        at_last = {"auc_last": _auc(layout.patches(last), labels)}
        at_last |= {name: classify(last).cpu() for name, classify in self.classifiers.items()}
        tables = []
        for layer, tokens in marked.tokens.items():
            before = _describe(tokens, labels, layout) | at_last
            for spec, purifier in self.purifiers.items():
                purified = purifier.purify_tokens(tokens, marked.masks[layer], layout)
                after, cosine = self._after(before, tokens, purified, last, layer, labels, layout)
                columns = {f"{name}_before": values for name, values in before.items()}
                columns |= {f"{name}_after": values for name, values in after.items()}
                columns |= {"class_cosine": cosine, "marked": marked.masks[layer].sum(dim=1).cpu()}
                numbers = {name: values.numpy() for name, values in columns.items()}
                tables.append(pd.DataFrame({"layer": layer, "purifier": spec, **numbers}))
        return tables

    def _after(
        self,
        before: Mapping[str, Tensor],
        tokens: Tensor,
        purified: Tensor,
        last: Tensor,
        layer: int,
        labels: Tensor | None,
        layout: Layout,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The numbers of `before` once `purified` takes the place of `tokens`, and the class token's cosine: (B) each.

        An image that is not changed keeps its numbers bit for bit and does not run again.
        """
        changed = (purified != tokens).flatten(1).any(dim=1)
        after = {name: values.clone() for name, values in before.items()}
        cosine = torch.full((len(tokens),), 1.0 if layout.has_class_token else torch.nan, dtype=torch.float64)
        if not changed.any():
            return after, cosine
        purified, labels = purified[changed], None if labels is None else labels[changed.to(labels.device)]
        found = _describe(purified, labels, layout)
        if layer < self.backbone.depth:
            reached = self.backbone.run(purified, start=layer + 1, layout=layout)
            found["auc_last"] = _auc(layout.patches(reached), labels)
        else:
            reached = purified
            found["auc_last"] = found["auc"]
        found |= {name: classify(reached).cpu() for name, classify in self.classifiers.items()}
        where = changed.cpu()
        for name, values in found.items():
            after[name][where] = values
        if layout.has_class_token:
            # As doubles, so that a class token that is the same has the cosine 1; on the CPU, which all have them.
            stock, mine = (layout.class_token(side).cpu().double() for side in (last[changed], reached))
            cosine[where] = F.cosine_similarity(stock, mine, dim=-1)
        return after, cosine


def _describe(tokens: Tensor, labels: Tensor | None, layout: Layout) -> dict[str, Tensor]:
    """Numbers of each image's tokens, on the CPU: (B) each."""
    norms = token_norms(layout.patches(tokens).float())
    return {
        "auc": _auc(layout.patches(tokens), labels),
        "norm": norms.mean(dim=1).cpu(),
        "norm_ratio": norm_ratio(norms).cpu(),
        "entropy": normalized_entropy(tokens.float()).cpu(),
    }


def _auc(patches: Tensor, labels: Tensor | None) -> Tensor:
    """`pair_auc` on the CPU, of so many images at once that their pairs fit: (B), nan without labels."""
    if labels is None:
        return torch.full((len(patches),), torch.nan)
    some = max(1, 2 * PAIRS_AT_ONCE // patches.shape[1] ** 2)
    return torch.cat([pair_auc(*pieces).cpu() for pieces in zip(patches.split(some), labels.split(some), strict=True)])


def purification_table(
    backbone: Backbone,
    images: Any,
    *,
    detector: str | Detector,
    purifiers: Sequence[str],
    layers: Sequence[int],
    labels: str | Path | Sequence[np.ndarray] | None = None,
    ignore: Collection[int] = (255,),
    classes: Sequence[str] | Mapping[str, Sequence[int]] | None = None,
    truth: Sequence[int] | Mapping[str, str] | None = None,
    fitted: Fitted | None = None,
    size: str | Size | None = None,
    batch: int = 8,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """What purifying the tokens that a detector marks does: a row for each layer, purifier and mode.

    Mode `in place`: the patches of that layer are purified for the measurement only. `propagated`: later blocks see
    them purified, as with the edit `purify-at` at that layer; then the columns about the last layer and what the model
    says have numbers, otherwise nan. Columns, each a mean over images, with those in it where nothing is marked:

    - `marked`: patches marked in an image; `images`: how many were opened; `compared`: how many have an AUC.
    - `auc_before`, `auc_after`, `delta_auc`: exact same-class AUC of each image at that layer (`measures.auc`), and
      its change; over the images compared. `low`, `high`: bootstrap interval of `delta_auc`, see `mean_interval`.
    - `delta_auc_last`, `low_last`, `high_last`: the same at the last layer.
    - `norm_before`, `norm_after`: mean patch norm at that layer, in model units; `norm_ratio_…`: largest over median
      patch norm (infinite where the median is 0); `entropy_…`: normalized entropy of all tokens, prefix included.
    - `class_cosine`: class token of the last layer before and after; nan for a model without one.
    - `head_agreement`: share of images whose first class by the model's own classifier stays; nan without one.
    - `accuracy_before`, `accuracy_after`: share of images classified rightly, with `classes` and `truth`.

    `classes` are names to describe by the text tower; or, for a model with a classifier of its own, name -> rows of
    `backbone.class_head()`, of which the one with the largest output speaks for the class. `truth` is the number of
    each image's class among them, in the images' order; or image's name -> class's name, see `classes_of`.

    Detectors that learn take what `fitted`, of `fit_detectors`, holds of them, or learn on the first images.
    `labels` as for `probe`; without them the AUC is nan. `keep` as a purifier changes nothing, exactly; `shuffle` is
    the control that removes outliers but knows no place. An image that can't be read is left out, and so is a label
    map, with a warning. Source of the AUC: SC-CLIP, arXiv:2411.15869, Fig 4 and 8; the table is ours.
    """
    for name, number in (("batch", batch), ("bootstrap", bootstrap)):
        if number < 1:
            raise ValueError(f"`{name}` should be at least 1; got {number}.")
    purification: dict[str, Purifier] = {spec: PURIFIERS.build(spec) for spec in purifiers}
    if not purification:
        raise ValueError(f"`purifiers` should name at least one purifier; known: {', '.join(PURIFIERS)}.")
    door = prepared(backbone, images, [detector], layers, size, strict=False)
    listed, chosen = door.listed, door.layers
    for spec, purifier in purification.items():
        for reason in filter(None, map(purifier.unsupported_reason, door.layouts)):
            raise ValueError(f"`{spec}` can't run on `{backbone.spec}`: {reason}.")
    right = _right_classes(classes, truth, [image.name for image in listed])
    classifiers = _classifiers(backbone, classes)
    source = label_source(labels, listed)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, source, ignore)
    ready = ready_detectors(backbone, door, fitted or {})
    (named,) = door.parts
    run = _Run(backbone, named, {layer: ready[named, layer] for layer in chosen}, purification, classifiers)

    def work(some: list[Loaded]) -> list[pd.DataFrame]:
        patch_labels = [item.labels for item in some if item.labels is not None]
        with torch.no_grad():
            names = [listed[item.number].name for item in some]
            tables = run.measure(stacked(some), torch.stack(patch_labels) if patch_labels else None, names)
        return [table.assign(image=[item.number for item in some]) for table in tables]

    tables, reasons = [], []
    blocks = [range(start, min(start + batch, len(listed))) for start in range(0, len(listed), batch)]
    bar = progress_bar(f"purify {backbone.spec}", len(listed), shown=progress)
    with bar:
        for block, loaded in opened_ahead(blocks, loader):
            tables += [table for _, found in in_batches(loaded, batch, work) for table in found]
            reasons += [item.reason for item in loaded if item.reason]
            bar.update(len(block))
    if not tables:
        raise ValueError(f"none of the {len(listed)} images can be read. The first: {reasons[0]}")
    if reasons:
        warnings.warn(f"left out ({len(reasons)}):" + "".join(f"\n  {reason}" for reason in reasons), stacklevel=2)
    measured = pd.concat(tables, ignore_index=True)
    if right is not None:
        for when in ("before", "after"):
            measured[f"accuracy_{when}"] = (measured[f"named_{when}"] == right[measured["image"]]).astype(float)
    return _summed_up(measured, chosen, list(purification), bootstrap, seed)


def mean_interval(values: np.ndarray, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of a mean: the middle 95 % of the means of `draws` samples with replacement. (low, high).

    Of differences it is the interval of the paired change. Equal seeds draw equal places, so that rows of a table are
    compared on the same samples. nan for no values. Source: the percentile method of Efron and Tibshirani 1993, Ch 13.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size:
        return np.nan, np.nan
    generator = np.random.default_rng(seed)
    # Sample by sample: all at once would be `draws` times as large as the data.
    means = [values[generator.integers(values.size, size=values.size)].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _summed_up(
    measured: pd.DataFrame, layers: Sequence[int], purifiers: Sequence[str], bootstrap: int, seed: int
) -> pd.DataFrame:
    """Means and intervals over images of every layer, purifier and mode."""

    def both(here: pd.DataFrame, name: str) -> pd.DataFrame:
        """before, after and delta of the images that have both."""
        pair = pd.DataFrame({when: here[f"{name}_{when}"].astype(float) for when in ("before", "after")}).dropna()
        return pair.assign(delta=pair["after"] - pair["before"])

    rows: list[dict[str, Any]] = []
    for layer in layers:
        for spec in purifiers:
            # By number, so that intervals do not depend on how images were batched by size.
            here = measured[(measured["layer"] == layer) & (measured["purifier"] == spec)].sort_values("image")
            auc, auc_last = both(here, "auc"), both(here, "auc_last")
            row: dict[str, Any] = {"layer": layer, "purifier": spec, "mode": MODES[0]}
            row |= {"marked": here["marked"].mean(), "images": len(here), "compared": len(auc)}
            row |= {f"auc_{when}": auc[when].mean() for when in ("before", "after")}
            row["delta_auc"] = auc["delta"].mean()
            row["low"], row["high"] = mean_interval(auc["delta"].to_numpy(), draws=bootstrap, seed=seed)
            for name in ("norm", "norm_ratio", "entropy"):
                row |= {f"{name}_{when}": here[f"{name}_{when}"].mean() for when in ("before", "after")}
            later = {"delta_auc_last": auc_last["delta"].mean()}
            low_high = mean_interval(auc_last["delta"].to_numpy(), draws=bootstrap, seed=seed)
            later["low_last"], later["high_last"] = low_high
            later["class_cosine"] = here["class_cosine"].mean()
            judged = "head_before" in here
            later["head_agreement"] = (here["head_before"] == here["head_after"]).mean() if judged else np.nan
            for name in ("accuracy_before", "accuracy_after"):
                later[name] = here[name].mean() if name in here else np.nan
            rows += [row | dict.fromkeys(later, np.nan), row | {"mode": MODES[1]} | later]
    return pd.DataFrame(rows)


def _right_classes(
    classes: Sequence[str] | Mapping[str, Sequence[int]] | None,
    truth: Sequence[int] | Mapping[str, str] | None,
    names: Sequence[str],
) -> np.ndarray | None:
    """The number of each image's class, or None where no classes are named."""
    if classes is None and truth is None:
        return None
    if classes is None or truth is None:
        raise ValueError("`classes` and `truth` go together: the names, and the class of each image.")
    if isinstance(truth, Mapping):
        return np.array(classes_of(names, truth, list(classes)))
    if len(truth) != len(names) or not all(0 <= number < len(classes) for number in truth):
        raise ValueError(
            f"`truth` should have a number in 0…{len(classes) - 1} for each of the {len(names)} images, in their "
            f"order; got {len(truth)} numbers: {list(truth)[:10]}."
        )
    return np.array(truth)


def _classifiers(
    backbone: Backbone, classes: Sequence[str] | Mapping[str, Sequence[int]] | None
) -> dict[str, Classifier]:
    """What says an image's class: `head`, if the model has one, and `named`, among the classes that are named."""
    found: dict[str, Classifier] = {}
    rows = 0
    try:
        rows = len(backbone.class_head())
        found["head"] = lambda tokens: backbone.pool(tokens).argmax(dim=-1)
    except ValueError:
        pass  # no classifier: the column is nan
    if isinstance(classes, Mapping):
        if not rows:
            raise ValueError(f"`{backbone.spec}` has no classifier whose rows `classes` could name; give names alone.")
        chosen = {name: list(numbers) for name, numbers in classes.items()}
        for name, numbers in chosen.items():
            if not numbers or not all(0 <= number < rows for number in numbers):
                raise ValueError(f"class `{name}` should name rows of the classifier, 0…{rows - 1}; got {numbers}.")

        def by_rows(tokens: Tensor) -> Tensor:
            outputs = backbone.pool(tokens).float()
            best = [outputs[:, numbers].amax(dim=1) for numbers in chosen.values()]
            return torch.stack(best, dim=1).argmax(dim=1)

        found["named"] = by_rows
    elif classes is not None:
        with torch.no_grad():
            texts = F.normalize(backbone.encode_text([PROMPT.format(name) for name in classes]).float(), dim=-1)
        # An image's length is the same for all classes, so it is left as it is.
        found["named"] = lambda tokens: (backbone.pool(tokens).float() @ texts.T).argmax(dim=-1)
    return found
