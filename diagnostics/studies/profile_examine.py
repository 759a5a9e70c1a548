"""A second look at a few images: what outliers are made of, what they do with the attention they draw, and whether it
matters that they are there.

One forward pass an image reads everything; where purified tokens go on, only the blocks after the purified layer run
again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from diagnostics.backbones.base import Backbone, Block, recorded_attention
from diagnostics.gap_line import GapLine
from diagnostics.images.feed import ListedImage, Loaded, Loader, in_batches, label_source, list_images, stacked
from diagnostics.layout import Layout
from diagnostics.measures.attention import rank_one_share
from diagnostics.measures.auc import pair_auc
from diagnostics.measures.entropy import normalized_entropy
from diagnostics.options import RunOptions
from diagnostics.purifiers import PURIFIERS
from diagnostics.studies.purification import CONFIDENCE
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import EachLayer, Recording

TOP = 5  # channels and hidden units that are named; our choice
PURIFIER = "neighbor-mean"
DRAWS = 1000  # of an interval, as elsewhere


@dataclass(frozen=True)
class Examined:
    """What the second look gave: `facts`, and the patches of the last layer, (image, row, col, channel), by name."""

    facts: dict[str, Any]
    names: tuple[str, ...]
    features: np.ndarray


def examine(
    backbone: Backbone,
    images: Any,
    kept: xr.Dataset,
    summary: Mapping[str, Any],
    *,
    count: int,
    labels: Any = None,
    ignore: Collection[int] = (255,),
    options: RunOptions,
) -> Examined:
    """Looks into the first `count` images of the most common size once more; `kept` has the marks of all.

    The facts are empty where the backbone has no outliers. `channels` and `units` are of the first layer with
    outliers, and of the block that writes them; `values` has a row for each later layer, `effect` one for each layer
    that is purified, budget and number.
    """
    listed = list_images(images, options.size_for(backbone.native_size), strict=False)
    chosen = _alike(listed, [str(name) for name in kept["image"].values], count)
    loader = Loader(
        listed, backbone.mean, backbone.std, backbone.patch_size, labels=label_source(labels, listed), ignore=ignore
    )
    marks = {int(layer): kept["marked"].sel(layer=layer) for layer in kept["layer"].values}
    look = _Look(backbone, summary, marks, [str(name) for name in kept["image"].values], listed)
    opened = [loaded for loaded in map(loader, chosen) if loaded.image is not None]
    with torch.no_grad():
        for _ in in_batches(opened, options.batch, look.work, advice="choose a smaller --size"):
            pass
    return Examined(look.facts(), tuple(look.shown), np.concatenate(look.features))


def _alike(listed: Sequence[ListedImage], measured: Sequence[str], count: int) -> list[int]:
    """Numbers of the first measured images of the most common size."""
    names = set(measured)
    places = [place for place, image in enumerate(listed) if not image.reason and image.name in names]
    sizes = [listed[place].size for place in places]
    common = max(sizes, key=sizes.count)
    return [place for place, size in zip(places, sizes, strict=True) if size == common][:count]


class _Look:
    """Gathers the numbers of batches, image by image."""

    def __init__(
        self,
        backbone: Backbone,
        summary: Mapping[str, Any],
        marks: Mapping[int, xr.DataArray],
        names: Sequence[str],
        listed: Sequence[ListedImage],
    ) -> None:
        self.backbone, self.marks, self.names, self.listed = backbone, marks, list(names), listed
        self.first, self.writer = summary["first_layer"], summary.get("written_in")
        # A model of differential attention has no single pair of queries and keys to make attention from again.
        self.parts = ("attention",) if any(block.differential for block in backbone.blocks) else ATTENTION_PARTS
        self.shown: list[str] = []
        self.features: list[np.ndarray] = []
        self.outliers: list[np.ndarray] = []  # patches of the first layer, (N, D), and their marks
        self.masks: list[np.ndarray] = []
        self.activity: list[tuple[np.ndarray, np.ndarray]] = []  # hidden units at outliers, and elsewhere
        self.values: list[dict[str, Any]] = []
        self.effects: list[dict[str, Any]] = []

    def work(self, batch: list[Loaded]) -> None:
        pixels = stacked(batch)
        layout, depth = self.backbone.layout(pixels), self.backbone.depth
        needs: dict[int, set[str]] = {}
        if self.first is not None:
            needs[self.first] = {"block_out"}
            needs.setdefault(self.writer or self.first, set()).add("ffn_hidden")
            for layer in range(self.first + 1, depth + 1):
                needs.setdefault(layer, set()).update({*self.parts, "value"})
        rows = [self.names.index(self.listed[image.number].name) for image in batch]
        tokens: dict[int, Tensor] = {}

        def look(layer: int, recording: Recording) -> None:
            if layer == self.first:
                tokens[layer] = recording["block_out"]
                self._outliers(recording["block_out"], self._mask(layer, rows, layout), layout)
            if layer == (self.writer or self.first):
                self._units(recording["ffn_hidden"], self._mask(self.first, rows, layout), layout)
            if layer > self.first:
                self._values(layer, recording, self._mask_before(layer, rows, layout), layout, rows)

        last = self.backbone.trunk(pixels, tap=EachLayer(needs, look))
        self.shown += [self.names[row] for row in rows]
        self.features.append(layout.to_map(layout.patches(last)).float().cpu().numpy())
        if self.first is not None:
            labels = [image.labels for image in batch]
            known = torch.stack([label for label in labels if label is not None]) if all(
                label is not None for label in labels) else None  # fmt: skip
            for layer in dict.fromkeys((self.first, depth)):
                start = tokens.get(layer, last)
                self._effect(layer, start, last, self._mask(layer, rows, layout), known, layout, rows)

    def _mask(self, layer: int, rows: Sequence[int], layout: Layout) -> Tensor:
        """Marks of the images at a layer, or of the first layer where it has none: (B, N) bool on the device."""
        marks = self.marks.get(layer)
        if marks is None or not bool(marks.any()):
            marks = self.marks[self.first]
        values = marks.transpose("image", "row", "col").values[list(rows), : layout.grid.rows, : layout.grid.cols]
        return torch.from_numpy(values.reshape(len(values), -1).copy()).to(self.backbone.device)

    def _mask_before(self, layer: int, rows: Sequence[int], layout: Layout) -> Tensor:
        return self._mask(layer - 1, rows, layout)

    def _outliers(self, tokens: Tensor, mask: Tensor, layout: Layout) -> None:
        patches = layout.patches(tokens).float().cpu().numpy()
        self.outliers += list(patches)
        self.masks += list(mask.cpu().numpy())

    def _units(self, hidden: Tensor, mask: Tensor, layout: Layout) -> None:
        patches = layout.patches(hidden).float()
        for image, marked in zip(patches, mask, strict=True):
            if marked.any() and not marked.all():
                self.activity.append(
                    (image[marked].mean(dim=0).cpu().numpy(), image[~marked].mean(dim=0).cpu().numpy())
                )

    def _values(self, layer: int, recording: Recording, mask: Tensor, layout: Layout, rows: Sequence[int]) -> None:
        """Attention, values and outputs with the marked patches and without, of each image that has some."""
        for place, row in enumerate(rows):
            if not mask[place].any() or mask[place].all():
                continue
            # Image by image: whole maps of a batch may be large.
            alone = {at: value[place : place + 1] for at, value in recording.values.items() if len(value) == len(rows)}
            one_image = Recording(recording.depth, {**recording.values, **alone})
            whole = one_image.get("attention", layer)
            weights = (recorded_attention(one_image, layer) if whole is None else whole.float())[0]
            numbers = attention_use(weights, recording["value", layer][place].float(), mask[place], layout)
            self.values.append({"layer": layer, "image": row, **numbers})

    def _effect(
        self,
        layer: int,
        tokens: Tensor,
        last: Tensor,
        mask: Tensor,
        labels: Tensor | None,
        layout: Layout,
        rows: Sequence[int],
    ) -> None:
        """What purifying the marked patches changes at the last layer, against as many random ones."""
        scores = layout.patches(tokens).float().norm(dim=-1)
        before = _at_last(self.backbone, last, last, labels, layout)
        for budget in (1, 0):
            chosen = _largest_marked(scores, mask, budget) if budget else mask
            random = _random_others(mask, chosen.sum(dim=1), [*rows])
            for which, places in (("outliers", chosen), ("random", random)):
                purified = PURIFIERS.build(PURIFIER).purify_tokens(tokens, places, layout)
                reached = purified
                if layer < self.backbone.depth:
                    reached = self.backbone.run(purified, start=layer + 1, layout=layout)
                after = _at_last(self.backbone, reached, last, labels, layout)
                for name, values in after.items():
                    for place, row in enumerate(rows):
                        if mask[place].any():
                            change = float(values[place] - before[name][place])
                            self.effects.append({"layer": layer, "k": budget, "what": name, "which": which,
                                                 "image": row, "change": change})  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """All that was gathered, in numbers that JSON has."""
        if self.first is None or not any(mask.any() for mask in self.masks):
            return {}
        patches, masks = np.stack(self.outliers), np.stack(self.masks)
        direction = patches[masks].mean(axis=0) - patches[~masks].mean(axis=0)
        return {
            "examined": len(self.shown),
            "channels": channel_facts(patches, masks, direction),
            "units": self._unit_facts(direction),
            "values": _means(self.values, "layer"),
            "effect": effect_facts(self.effects),
        }

    def _unit_facts(self, direction: np.ndarray) -> list[dict[str, Any]]:
        """The hidden units of the writing block that write most along the outliers' direction, as shares of the sum."""
        if not self.activity:
            return []
        difference = np.mean([marked - other for marked, other in self.activity], axis=0)
        along = direction / np.linalg.norm(direction)
        block = self.backbone.blocks[(self.writer or self.first) - 1]
        written = difference * written_along(block, along, len(difference), self.backbone)
        order = np.argsort(-written)[:TOP]
        total = written[written > 0].sum()
        return [
            {"layer": int(self.writer or self.first), "unit": int(unit), "share": float(written[unit] / total),
             "activation": float(np.mean([marked[unit] for marked, _ in self.activity])),
             "elsewhere": float(np.mean([other[unit] for _, other in self.activity]))}
            for unit in order if written[unit] > 0
        ]  # fmt: skip


def written_along(block: Block, along: np.ndarray, units: int, backbone: Backbone) -> np.ndarray:
    """What an activation of 1 of each hidden unit adds to the residual stream along a unit vector: (F)."""
    device, dtype = backbone.device, backbone.dtype
    zero = block.ffn_out(torch.zeros(1, 1, units, device=device, dtype=dtype)).float()
    vector = torch.from_numpy(along).to(device).float()
    pieces = []
    for start in range(0, units, 512):
        ones = torch.eye(units, device=device, dtype=dtype)[None, start : start + 512]
        pieces.append(((block.ffn_out(ones).float() - zero)[0] @ vector).cpu())
    return torch.cat(pieces).numpy()


def attention_use(weights: Tensor, value: Tensor, mask: Tensor, layout: Layout) -> dict[str, float]:
    """What attention does with marked patches of one image: (H, T, T), values (H, T, d), mask (N) -> shares and ratios.

    `attention`: share of the patches' attention that they receive. `value_norm`: their values' norm over that of other
    patches, medians, mean over heads. `weighted`: their share of attention times the values' norm. `class_part`: the
    same for the class token's attention alone (NaN without one). `rank_one` and `rank_one_without`: share of the first
    squared singular value in what the patches' attention brings from patches, with the marked ones and without.
    """
    from_patches = layout.patches(weights, dim=1)
    columns = layout.patches(from_patches, dim=2)
    values = layout.patches(value, dim=1)
    norms = values.norm(dim=-1)
    received = columns.sum(dim=1)
    ratio = norms[:, mask].median(dim=1).values / norms[:, ~mask].median(dim=1).values.clamp_min(1e-12)
    weighted = received * norms
    class_part = torch.nan
    if layout.has_class_token:
        row = layout.patches(layout.class_token(weights, dim=1), dim=1) * norms
        class_part = float(row[:, mask].sum() / row.sum())
    without = columns * (~mask)
    return {
        "attention": float(received[:, mask].sum() / from_patches.sum()),
        "by_chance": float(mask.sum()) / layout.tokens,
        "value_norm": float(ratio.mean()),
        "weighted": float(weighted[:, mask].sum() / weighted.sum()),
        "class_part": class_part,
        "rank_one": float(rank_one_share(columns @ values).nanmean()),
        "rank_one_without": float(rank_one_share(without @ values).nanmean()),
    }


def channel_facts(patches: np.ndarray, masks: np.ndarray, direction: np.ndarray) -> list[dict[str, Any]]:
    """The channels that carry the outliers: patches (images, N, D), masks (images, N) -> a row for each, largest first.

    `share` of the squared difference between outliers and others; `images`: share of the images with outliers whose
    own largest channel it is; `precision` and `recall` of a line on the channel's size against the marks.
    """
    squares = direction**2
    tops = []
    for image, mask in zip(patches, masks, strict=True):
        if mask.any() and not mask.all():
            tops.append(int(np.abs(image[mask].mean(axis=0) - image[~mask].mean(axis=0)).argmax()))
    rows = []
    for channel in np.argsort(-squares)[:TOP]:
        sizes = np.abs(patches[:, :, channel])
        line = GapLine()(sizes)
        marked = sizes > (np.inf if line.threshold is None else line.threshold)
        both = float((marked & masks).sum())
        rows.append(
            {
                "channel": int(channel),
                "share": float(squares[channel] / squares.sum()),
                "images": float(np.mean([top == channel for top in tops])),
                "precision": both / float(marked.sum()) if marked.any() else None,
                "recall": both / float(masks.sum()),
            }
        )
    return rows


def _at_last(
    backbone: Backbone, tokens: Tensor, stock: Tensor, labels: Tensor | None, layout: Layout
) -> dict[str, Tensor]:
    """Numbers of each image's tokens of the last layer: (B) each, on the CPU."""
    patches = layout.patches(tokens)
    numbers = {"entropy": normalized_entropy(patches.float()).cpu()}
    if layout.has_class_token:
        after, before = (layout.class_token(side).double().cpu() for side in (tokens, stock))
        numbers["class token cosine"] = F.cosine_similarity(after, before, dim=-1)
    if labels is not None:
        numbers["same-class AUC"] = pair_auc(patches, labels.to(patches.device)).cpu()
    if backbone.has_classifier:
        same = backbone.pool(tokens).argmax(dim=-1) == backbone.pool(stock).argmax(dim=-1)
        numbers["same first class"] = same.double().cpu()
    return numbers


def _largest_marked(scores: Tensor, mask: Tensor, count: int) -> Tensor:
    """The `count` marked patches with the largest scores: (B, N) bool."""
    order = scores.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True)[:, :count]
    return torch.zeros_like(mask).scatter(1, order, True) & mask


def _random_others(mask: Tensor, counts: Tensor, seeds: Sequence[int]) -> Tensor:
    """As many unmarked patches of each image, drawn by the image's number: (B, N) bool."""
    chosen = torch.zeros_like(mask)
    for place, seed in enumerate(seeds):
        others = (~mask[place]).nonzero().flatten()
        order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed)).to(mask.device)
        chosen[place, others[order[: int(counts[place])]]] = True
    return chosen


def _means(rows: Sequence[Mapping[str, Any]], by: str) -> list[dict[str, Any]]:
    """Means over images of every number, for each value of `by`."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    means = []
    for key in sorted(groups):
        names = [name for name in groups[key][0] if name not in (by, "image")]
        numbers = {name: float(np.mean([row[name] for row in groups[key]])) for name in names}
        finite = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
        low, high = _interval(np.array([row["rank_one"] - row["rank_one_without"] for row in groups[key]]))
        means.append({by: key, "images": len(groups[key]), **finite, "rank_one_change": [low, high]})
    return means


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of a mean over images, as `mean_interval` has it, all draws at once for so few images.

    None for fewer than three, which tell of no spread.
    """
    if len(values) < 3 or not np.isfinite(values).all():
        return None, None
    places = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[places].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def effect_facts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean change by purifying outliers and as many random patches, and the difference, paired, with its interval.

    `k` is the budget of an image, 0 for all its outliers.
    """
    groups: dict[tuple[int, int, str], dict[str, dict[int, float]]] = {}
    for row in rows:
        group = groups.setdefault((row["layer"], row["k"], row["what"]), {"outliers": {}, "random": {}})
        group[row["which"]][row["image"]] = row["change"]
    effects = []
    for (layer, k, what), group in groups.items():
        images = [
            image for image in group["outliers"] if np.isfinite(group["outliers"][image] + group["random"][image])
        ]
        if not images:
            continue
        outliers, random = (np.array([group[which][image] for image in images]) for which in ("outliers", "random"))
        low, high = _interval(outliers - random)
        effects.append(
            {
                "layer": layer,
                "k": k,
                "what": what,
                "images": len(images),
                "outliers": float(outliers.mean()),
                "random": float(random.mean()),
                "difference": float((outliers - random).mean()),
                "low": low,
                "high": high,
            }
        )
    return effects
