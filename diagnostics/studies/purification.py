"""What purifying the marked tokens does: to the similarity of patches, to the class token, to the model's answer.

One stock forward an image serves all layers and purifiers; where the purified tokens go on, only the blocks after the
purified layer run again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector
from diagnostics.images.feed import Loaded, Loader, label_source, stacked
from diagnostics.images.image_classes import classes_of
from diagnostics.layout import Layout
from diagnostics.measures.auc import PAIRS_AT_ONCE, pair_auc
from diagnostics.measures.entropy import normalized_entropy
from diagnostics.measures.norms import norm_ratio, token_norms
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.base import Purifier
from diagnostics.studies.blocks import none_readable, reasons_of, warn_left_out, work_on_blocks
from diagnostics.studies.scoring import Fitted, check_finite, prepare_run, ready_detectors
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
class _PurificationEffects:
    """Measures what purifying does to a batch. Detectors by layer; classifiers by the name of their column."""

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
            check_finite(scores, names, f"scores of `{self.spec}`", layer)
        for layer, tokens in (*marked.tokens.items(), (self.backbone.depth, last)):
            check_finite(tokens, names, f"tokens of `{self.backbone.spec}`", layer)
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
        numbers = _describe(purified, labels, layout)
        if layer < self.backbone.depth:
            reached = self.backbone.run(purified, start=layer + 1, layout=layout)
            numbers["auc_last"] = _auc(layout.patches(reached), labels)
        else:
            reached = purified
            numbers["auc_last"] = numbers["auc"]
        numbers |= {name: classify(reached).cpu() for name, classify in self.classifiers.items()}
        rows = changed.cpu()
        for name, values in numbers.items():
            after[name][rows] = values
        if layout.has_class_token:
            # As doubles, so that a class token that is the same has the cosine 1; on the CPU, which all have them.
            unpurified, propagated = (layout.class_token(side).cpu().double() for side in (last[changed], reached))
            cosine[rows] = F.cosine_similarity(unpurified, propagated, dim=-1)
        return after, cosine


def _describe(tokens: Tensor, labels: Tensor | None, layout: Layout) -> dict[str, Tensor]:
    """Numbers of each image's tokens, on the CPU: (B) each."""
    norms = token_norms(layout.patches(tokens).float())
    return {
        "auc": _auc(layout.patches(tokens), labels),
        "norm": norms.mean(dim=1).cpu(),
        "norm_ratio": norm_ratio(norms).cpu(),
        "entropy": normalized_entropy(layout.patches(tokens).float()).cpu(),
    }


def _auc(patches: Tensor, labels: Tensor | None) -> Tensor:
    """`pair_auc` on the CPU, of so many images at once that their pairs fit: (B), nan without labels."""
    if labels is None:
        return torch.full((len(patches),), torch.nan)
    count = max(1, 2 * PAIRS_AT_ONCE // patches.shape[1] ** 2)
    pieces = zip(patches.split(count), labels.split(count), strict=True)
    return torch.cat([pair_auc(*piece).cpu() for piece in pieces])


def purification_table(
    backbone: Backbone,
    images: Any,
    *,
    detector: str | Detector,
    purifiers: Sequence[str],
    labels: str | Path | Sequence[np.ndarray] | None = None,
    ignore: Collection[int] = (255,),
    classes: Sequence[str] | Mapping[str, Sequence[int]] | None = None,
    truth: Sequence[int] | Mapping[str, str] | None = None,
    fitted: Fitted | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
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
      patch norm (at most 1e6, where the median is 0); `entropy_…`: normalized entropy of the patches.
    - `class_cosine`: class token of the last layer before and after; nan for a model without one.
    - `head_agreement`: share of images whose first class by the model's own classifier stays; nan without one.
    - `accuracy_before`, `accuracy_after`: share of images classified rightly, with `classes` and `truth`.

    `classes` are names to describe by the text tower; or, for a model with a classifier of its own, name -> rows of
    `backbone.class_head()`, of which the largest output counts for the class. `truth` is the number of
    each image's class among them, in the images' order; or image's name -> class's name, see `classes_of`.

    Detectors that learn take what `fitted`, of `fit_detectors`, holds of them, or learn on the first images.
    `labels` as for `probe`; without them the AUC is nan. `keep` as a purifier changes nothing, exactly; `shuffle` is
    the control that removes outliers but knows no place. An image that can't be read is left out, and so is a label
    map, with a warning. Source of the AUC: SC-CLIP, arXiv:2411.15869, Fig 4 and 8; the table is ours.

    Options of the run: `layers`, `size`, `batch`, `progress`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    detector : str or Detector
        Whose outliers are replaced.
    purifiers : list of str
        Specs of what replaces them.
    labels : path, list of int arrays (H, W), or None
        Folder of label maps named as the images, or the maps.
    ignore : set of int
        Labels that take part in nothing.
    classes : list of str, dict, or None
        Names of classes, for the accuracy.
    truth : dict of str to str, list of int, or None
        Class by image, for the accuracy.
    fitted : dict or None
        Detectors that have learned already, from `ao.fit_detectors`; None lets them learn on the first images.
    bootstrap : int
        Draws of the 95 % intervals.
    seed : int
        Of the draws.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as
        far as they apply.

    Returns
    -------
    pandas.DataFrame
        A row for each layer, purifier and mode, with the change of the same-class AUC, norms, entropy and the class
        token.

    Raises
    ------
    ValueError
        For parts and layers that do not fit, and if no image can be read.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> table = ao.purification_table(backbone, scenes, detector="norm-topk", purifiers=["zero"], layers=[8])
    >>> set(table["purifier"])
    {'zero'}
    """
    options = run_options("purification_table", options, keywords, uses=("layers", "size", "batch", "progress"))
    if bootstrap < 1:
        raise ValueError(f"`bootstrap` should be at least 1; got {bootstrap}.")
    run = prepare_run(backbone, images, [detector], options)
    parts = _applicable_purifiers(backbone, purifiers, run.layouts)
    shown = _shown_classes(classes, truth, [image.name for image in run.listed])
    (name,) = run.detectors
    ready = ready_detectors(backbone, run, fitted or {})
    by_layer = {layer: ready[name, layer] for layer in run.layers}
    effects = _PurificationEffects(backbone, name, by_layer, parts, _classifiers(backbone, classes))
    measured = _measured(effects, replace(run.loader, labels=label_source(labels, run.listed), ignore=ignore), options)
    if shown is not None:
        for when in ("before", "after"):
            measured[f"accuracy_{when}"] = (measured[f"named_{when}"] == shown[measured["image"]]).astype(float)
    return _summary(measured, run.layers, list(parts), bootstrap, seed)


def _measured(effects: _PurificationEffects, loader: Loader, options: RunOptions) -> pd.DataFrame:
    """A row for each layer, purifier and image, with the image's number; warns of images left out."""
    listed = loader.images

    def work(batch: list[Loaded]) -> list[pd.DataFrame]:
        patch_labels = [image.labels for image in batch if image.labels is not None]
        names = [listed[image.number].name for image in batch]
        with torch.no_grad():
            tables = effects.measure(stacked(batch), torch.stack(patch_labels) if patch_labels else None, names)
        return [table.assign(image=[image.number for image in batch]) for table in tables]

    tables: list[pd.DataFrame] = []
    reasons: dict[str, str] = {}
    for block in work_on_blocks(loader, work, options, title=f"purify {effects.backbone.spec}"):
        tables += [table for _, batch_tables in block.batches for table in batch_tables]
        reasons |= reasons_of(block.images, listed)
    if not tables:
        raise none_readable(len(listed), reasons)
    warn_left_out(reasons, stacklevel=4)
    return pd.concat(tables, ignore_index=True)


def _applicable_purifiers(backbone: Backbone, specs: Sequence[str], layouts: Collection[Layout]) -> dict[str, Purifier]:
    """The purifiers by spec, each of which must suit the images."""
    purifiers: dict[str, Purifier] = {spec: PURIFIERS.build(spec) for spec in specs}
    if not purifiers:
        raise ValueError(f"`purifiers` should name at least one purifier; known: {', '.join(PURIFIERS)}.")
    for spec, purifier in purifiers.items():
        for reason in filter(None, map(purifier.unsupported_reason, layouts)):
            raise ValueError(f"`{spec}` can't run on `{backbone.spec}`: {reason}.")
    return purifiers


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


def _summary(
    measured: pd.DataFrame, layers: Sequence[int], purifiers: Sequence[str], bootstrap: int, seed: int
) -> pd.DataFrame:
    """Means and intervals over images of every layer, purifier and mode."""
    rows: list[dict[str, Any]] = []
    for layer in layers:
        for spec in purifiers:
            # By number, so that intervals do not depend on how images were batched by size.
            images = measured[(measured["layer"] == layer) & (measured["purifier"] == spec)].sort_values("image")
            row, last = _summary_at_layer(images, bootstrap, seed), _summary_at_last(images, bootstrap, seed)
            row = {"layer": layer, "purifier": spec, "mode": MODES[0]} | row
            rows += [row | dict.fromkeys(last, np.nan), row | {"mode": MODES[1]} | last]
    return pd.DataFrame(rows)


def _summary_at_layer(images: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """The columns about the purified layer itself, from the numbers of each image."""
    auc = _before_after(images, "auc")
    row: dict[str, Any] = {"marked": images["marked"].mean(), "images": len(images), "compared": len(auc)}
    row |= {f"auc_{when}": auc[when].mean() for when in ("before", "after")}
    row["delta_auc"] = auc["delta"].mean()
    row["low"], row["high"] = mean_interval(auc["delta"].to_numpy(), draws=bootstrap, seed=seed)
    for name in ("norm", "norm_ratio", "entropy"):
        row |= {f"{name}_{when}": images[f"{name}_{when}"].mean() for when in ("before", "after")}
    return row


def _summary_at_last(images: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, float]:
    """The columns about the last layer and the model's answer, from the numbers of each image."""
    auc = _before_after(images, "auc_last")
    row = {"delta_auc_last": auc["delta"].mean()}
    row["low_last"], row["high_last"] = mean_interval(auc["delta"].to_numpy(), draws=bootstrap, seed=seed)
    row["class_cosine"] = images["class_cosine"].mean()
    classified = "head_before" in images
    row["head_agreement"] = (images["head_before"] == images["head_after"]).mean() if classified else np.nan
    for name in ("accuracy_before", "accuracy_after"):
        row[name] = images[name].mean() if name in images else np.nan
    return row


def _before_after(images: pd.DataFrame, name: str) -> pd.DataFrame:
    """before, after and delta of the images that have both."""
    pair = pd.DataFrame({when: images[f"{name}_{when}"].astype(float) for when in ("before", "after")}).dropna()
    return pair.assign(delta=pair["after"] - pair["before"])


def _shown_classes(
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
    classifiers: dict[str, Classifier] = {}
    rows = 0
    if backbone.has_classifier:  # without one the column is nan
        rows = len(backbone.class_head())
        classifiers["head"] = lambda tokens: backbone.pool(tokens).argmax(dim=-1)
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

        classifiers["named"] = by_rows
    elif classes is not None:
        with torch.no_grad():
            texts = F.normalize(backbone.encode_text([PROMPT.format(name) for name in classes]).float(), dim=-1)
        # An image's length is the same for all classes, so it is left as it is.
        classifiers["named"] = lambda tokens: (backbone.pool(tokens).float() @ texts.T).argmax(dim=-1)
    return classifiers
