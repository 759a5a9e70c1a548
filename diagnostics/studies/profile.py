"""The profile of a backbone: are there outliers, from which layer, how many, where, and what do they draw.

One probe of the images is read by everything: the line of each layer, the verdict, places and attention. So a stored
run gives the same profile without the model, as far as it holds the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
import xarray as xr

from diagnostics.backbones.base import Backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.base import Detector
from diagnostics.gap_line import GapLine, Line
from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView, Measure, Variable
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.profile_file import FORMAT, VERSION, read_profile, settings_hash, write_profile
from diagnostics.registry import spec_name
from diagnostics.studies.probe import PROBE_OPTIONS, probe
from diagnostics.studies.profile_examine import Examined
from diagnostics.studies.profile_examine import examine as look_closer
from diagnostics.studies.profile_places import background_facts, place_facts
from diagnostics.studies.profile_verdict import NORM_DETECTORS, verdict_of
from diagnostics.studies.purification import mean_interval
from diagnostics.taps import Recording

MEASURES = ("norms", "received-attention")
# Our choice. Outliers grow over a block or two: a layer counts as their first where the typical one has come at least
# a third of the way up, in logarithms, to where it is in the layer in which it stands out most.
GROWN = 1 / 3
SAME = 0.5  # of the outliers of two neighboring layers, by which one confirms the other; our choice
EXAMINED = 4  # images that are looked into once more, at least; our choice, so that a profile costs little more


@dataclass(frozen=True)
class Profile:
    """What a backbone's outliers are and do: `facts` as the file has them, and what figures are drawn from.

    `scores` (image, layer, row, col) with `received`, attention received over an even share, where it was measured;
    `marked`, which patches are above their layer's line. A profile that was read from a file has facts alone.
    """

    facts: dict[str, Any]
    scores: xr.Dataset | None = None
    examined: Examined | None = field(default=None, repr=False)

    @property
    def verdict(self) -> str:
        """One line: none, norm outliers, attention sinks or both, and how many from where to where."""
        return str(self.facts["verdict"])

    @property
    def first_layer(self) -> int | None:
        """The first layer with outliers (1…L), or None."""
        layer = self.facts["first_layer"]
        return None if layer is None else int(layer)

    @property
    def threshold(self) -> dict[int, float | None]:
        """The line of each layer that was measured; None where it has none."""
        return {int(layer): threshold for layer, threshold in self.facts["threshold"].items()}

    @property
    def layers(self) -> pd.DataFrame:
        """A row for each layer."""
        return pd.DataFrame(self.facts["layers"]).set_index("layer")

    def write(self, path: str | Path) -> Path:
        """Writes the facts as JSON, for `--profile` and `detector=profile(FILE)`. Returns the path."""
        return write_profile(self.facts, path)

    @classmethod
    def read(cls, path: str | Path) -> Profile:
        """The profile of a file that `write` made; ValueError for any other file."""
        return cls(read_profile(path))

    def __str__(self) -> str:
        return f"{self.facts['backbone']}: {self.verdict}"


@dataclass(frozen=True, kw_only=True)
class DetectorScores(Measure):
    """Any detector's scores, as a variable of a run. Unit: the detector's. Source: the detector's."""

    detector: Detector
    spec: str

    @property
    def needs(self) -> tuple[str, ...]:
        return self.detector.needs

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "row", "col")
        return (Variable("score", dims, "of the detector", f"outlier score by {self.spec}", self.spec),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return self.detector.unsupported_reason(layout)

    def measure(self, view: LayerView) -> dict[str, torch.Tensor]:
        values = {(name, layer): value for (name, layer), value in view.recording.values.items()}
        scores = self.detector.score(Recording(view.recording.depth, values).at(view.layer), view.layout)
        return {"score": view.layout.to_map(scores)}


def profile(
    backbone: Backbone,
    images: Any,
    *,
    detector: str | Detector = "relative-norm",
    alpha: float = 0.01,
    labels: str | Path | Sequence[np.ndarray] | None = None,
    ignore: Collection[int] = (255,),
    background: Collection[int] = (0,),
    examine: int | None = None,
    out: str | Path | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> Profile:
    """Does this backbone have outliers, from which layer, how many, what are they, and what do they do?

    In each layer a line is looked for where the scores of all images have a gap: outliers are the patches above it,
    and there are none where one population explains the scores (`GapLine`). The same test on the attention that
    patches receive says whether there are attention sinks.

    Parameters
    ----------
    backbone
        The model, from `load_backbone`.
    images
        Files, folders, globs, PIL images or arrays (h, w, 3) uint8. A few tell much, a hundred tell all.
    detector
        Whose scores are looked at; the norm over the image's median by default.
    alpha
        How often one population may have a line in any layer.
    labels, ignore, background
        Label maps as for `probe`, and which labels stand for no class and for background: where outliers lie.
    examine
        How many images are looked into once more where there are outliers: channels, hidden units, values, and what
        purifying does. None: one in six, at least 4. 0 leaves it out.
    out
        A zarr store that keeps the numbers, from which `profile_run` makes the profile again.
    options, **keywords
        Options of the run: `layers`, `size`, `batch`, `positions`, `strict`, `progress`; see RunOptions.

    Returns
    -------
    Profile
        `verdict` in words, `first_layer`, `threshold` by layer, `facts` with all numbers; `write` makes the file that
        `detector=profile(FILE)` reads.

    Raises
    ------
    ValueError
        For parts and layers that do not fit, and if no image can be read.

    Source
    ------
    Outliers as tokens of high norm: Darcet et al. 2024, arXiv:2309.16588. The line and the profile are ours.

    Examples
    --------
    >>> import numpy as np, attention_outliers as ao
    >>> noise = np.random.default_rng(0).integers(0, 8, (10, 112, 112, 3))
    >>> images = [(noise[place] + 20 * (place + 1)).astype(np.uint8) for place in range(10)]
    >>> result = ao.profile(ao.load_backbone("tiny:outliers=true"), images, examine=0)
    >>> result.first_layer, result.facts["last_layer"]
    (6, 12)
    """
    options = run_options("profile", options, keywords, uses=PROBE_OPTIONS)
    rule = GapLine(alpha=alpha)
    spec = detector if isinstance(detector, str) else repr(detector)
    part = DETECTORS.build(detector)
    if part.learns:
        raise ValueError(f"`{spec}` learns for each layer; a profile looks at scores as they are: take another.")
    # Differential attention has two maps to a head, and no single one whose columns say who is attended to.
    differential = any(block.differential for block in backbone.blocks)
    measures: list[Any] = list(MEASURES[:1] if differential else MEASURES)
    if spec_name(spec) not in NORM_DETECTORS:
        measures.append(DetectorScores(detector=part, spec=spec))
    dataset = probe(backbone, images, measures=measures, out=out, options=options)
    made = profile_run(dataset, detector=spec, rule=rule)
    facts = dict(made.facts)
    if examine is None:
        examine = max(EXAMINED, round(dataset.sizes["image"] / 6))
    settings = facts["settings"] | {"labels": labels is not None, "examine": examine}
    examined = None
    if examine and made.scores is not None:
        examined = look_closer(
            backbone, images, made.scores, facts, count=examine, labels=labels, ignore=ignore, options=options
        )
        facts |= examined.facts
        facts["missing"] = facts["missing"][:-1]
    if labels is not None and made.scores is not None:
        facts["background"] = background_facts(
            made.scores, images, backbone.patch_size, labels=labels, background=background, ignore=ignore
        )
    facts |= {"settings": settings, "settings_hash": settings_hash(settings)}
    return replace(made, facts=facts, examined=examined)


def profile_run(dataset: xr.Dataset, *, detector: str = "relative-norm", rule: GapLine | None = None) -> Profile:
    """The profile of a run of `probe`, or of a stored one, without the model: all that its numbers hold.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run with the measure `norms` at least (with `score` for other detectors); `received-attention` tells of
        attention sinks.
    detector : str
        Whose scores are looked at.
    rule : GapLine or None
        Settings of the line.

    Returns
    -------
    Profile
        As `profile` makes it; `facts["missing"]` names what the run does not hold.

    Raises
    ------
    ValueError
        For a run without images, or without the scores.

    Source
    ------
    Ours.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=4)]
    >>> run = ao.probe(ao.load_backbone("tiny"), scenes, measures=["norms"], size=64)
    >>> ao.profile_run(run).facts["missing"]
    ['received-attention: attention sinks', 'the model: channels, hidden units, values, effect of purification']
    """
    if not dataset.sizes.get("image"):
        raise ValueError("the run has no measured images yet; let `probe` resume, and then ask again.")
    rule = rule or GapLine()
    scores = run_scores(dataset, detector)
    layers = [int(layer) for layer in dataset["layer"].values]
    lines = lines_of(scores, rule)
    marked = marked_above(scores, {layer: line.threshold for layer, line in lines.items()})
    kept = xr.Dataset({"score": scores, "marked": marked}, attrs={"size": dataset.attrs.get("size", "")})
    sinks: dict[int, Line] = {}
    if "received_attention" in dataset:
        kept["received"] = received_over_even(dataset)
        sinks = lines_of(kept["received"], rule)
        kept["sink"] = marked_above(kept["received"], {layer: line.threshold for layer, line in sinks.items()})
    rows = [_layer_row(layer, lines[layer], sinks.get(layer), kept.sel(layer=layer)) for layer in layers]
    known = json.loads(str(dataset.attrs.get("settings", "{}")))
    names = ("precision", "positions", "mean", "std", "size", "patch_size", "images")
    settings = {name: known.get(name) for name in names} | {"detector": detector, "rule": asdict(rule)}
    settings["layers"] = layers
    summary = _summary(rows, kept, detector, "received_attention" in dataset)
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "verdict": verdict_of(summary, detector, rule),
        **summary,
        "threshold": {str(layer): lines[layer].threshold for layer in layers},
        "backbone": str(dataset.attrs.get("backbone", "")),
        "weights": str(dataset.attrs.get("weights", "")),
        "detector": detector,
        "layers": rows,
        "settings": settings,
        "settings_hash": settings_hash(settings),
        "missing": [] if sinks else ["received-attention: attention sinks"],
    }
    facts["missing"].append("the model: channels, hidden units, values, effect of purification")
    return Profile(facts, kept)


def run_scores(dataset: xr.Dataset, detector: str) -> xr.DataArray:
    """A detector's scores of a run, dims image, layer, row, col; ValueError that names what the run lacks."""
    name = spec_name(detector)
    if name in NORM_DETECTORS:
        if "norm" not in dataset:
            raise ValueError(
                f"the run should have `norm`, which `{detector}` looks at; it has {', '.join(map(str, dataset))}. "
                "Probe with --measures norms,received-attention."
            )
        norm = dataset["norm"].transpose("image", "layer", "row", "col").astype("float64").load()
        if name == "norm":
            return norm
        median = norm.median(("row", "col"), skipna=True)
        return (norm / median.where(median > 0, np.finfo(np.float32).tiny)).rename("score")
    if "score" not in dataset or dataset["score"].attrs.get("source") != detector:
        raise ValueError(
            f"the run should have the scores of `{detector}`; only a run that `profile` made with that detector has "
            "them. Profile with --detector, or take relative-norm."
        )
    return dataset["score"].transpose("image", "layer", "row", "col").astype("float64").load()


def received_over_even(dataset: xr.Dataset) -> xr.DataArray:
    """Attention that patches receive, mean over heads, over an even share 1/T: image, layer, row, col."""
    received = dataset["received_attention"].transpose("image", "layer", "head", "row", "col").mean("head").load()
    tokens = dataset.attrs.get("prefix", 0) + dataset["rows"] * dataset["cols"]
    return (received * tokens).drop_vars(["head"], errors="ignore").rename("received").astype("float64")


def lines_of(scores: xr.DataArray, rule: GapLine) -> dict[int, Line]:
    """The line of each layer: scores with dims image, layer, row, col."""
    layers = [int(layer) for layer in scores["layer"].values]
    flat = scores.transpose("layer", "image", "row", "col").values.reshape(len(layers), scores.sizes["image"], -1)
    lines = [rule(values, layers=len(layers)) for values in flat]
    return dict(zip(layers, _with_neighbors(lines, flat), strict=True))


def _with_neighbors(lines: list[Line], scores: np.ndarray) -> list[Line]:
    """Lines of layers in their order, those that lack images taken where the layer beside them has the same outliers.

    A residual stream goes on: the patches that a layer's line marks are looked at again in the layer before and after.
    Where they are what a gap there would mark, at least SAME of them (Jaccard), they do not come from one population
    by chance. `scores`: (layers, images, patches).
    """
    lines = list(lines)
    waiting = [place for place, line in enumerate(lines) if line.threshold is not None]
    while waiting:
        place = waiting.pop()
        marks = scores[place] > lines[place].threshold
        for beside in (place - 1, place + 1):
            candidate = lines[beside].candidate if 0 <= beside < len(lines) else None
            if candidate is None or lines[beside].threshold is not None:
                continue
            theirs = scores[beside] > candidate
            if (marks & theirs).sum() >= SAME * (marks | theirs).sum():
                images = int(theirs.any(axis=1).sum())
                lines[beside] = replace(
                    lines[beside], answer="gap", threshold=candidate, images=images, marked=int(theirs.sum())
                )
                waiting.append(beside)
    return lines


def marked_above(scores: xr.DataArray, thresholds: dict[int, float | None]) -> xr.DataArray:
    """Which scores are above their layer's line; none where it has none."""
    limits = [np.inf if thresholds[int(layer)] is None else thresholds[int(layer)] for layer in scores["layer"].values]
    return (scores > xr.DataArray(np.array(limits, float), dims="layer")).rename("marked")


def _layer_row(layer: int, line: Line, sinks: Line | None, at: xr.Dataset) -> dict[str, Any]:
    """What is known of one layer, in numbers that JSON has."""
    counts = at["marked"].sum(("row", "col")).values
    typical = at["score"].where(at["marked"]).median().item()
    row: dict[str, Any] = {"layer": layer, **asdict(line)}
    row |= {
        "outliers_per_image": float(np.median(counts)),
        "typical": _number(typical),
        "median": _number(at["score"].median().item()),
    }
    if sinks is not None:
        tokens = at["received"].count(("row", "col"))
        share = (at["received"].where(at["marked"]).sum(("row", "col")) / tokens).mean().item()
        row |= {
            "sink_answer": sinks.answer,
            "sink_threshold": sinks.threshold,
            "sink_width": sinks.width,
            "sinks_per_image": float(at["sink"].sum(("row", "col")).values.mean()),
            "sink_share": _number((at["received"].where(at["sink"]).sum(("row", "col")) / tokens).mean().item()),
            "outlier_share": _number(share) if line.threshold is not None else None,
            "by_chance": _number((at["marked"].sum(("row", "col")) / tokens).mean().item()),
        }
    return row


def _summary(rows: list[dict[str, Any]], kept: xr.Dataset, detector: str, attention: bool) -> dict[str, Any]:
    """The facts of the verdict, from those of the layers."""
    lined = [row for row in rows if row["threshold"] is not None]
    first, last, clearest = _extent(lined)
    images = kept.sizes["image"]
    counts = np.zeros(images)
    if clearest is not None:
        counts = kept["marked"].sel(layer=clearest).sum(("row", "col")).values
    sunk = [row for row in rows if row.get("sink_threshold") is not None]
    summary: dict[str, Any] = {
        "first_layer": first,
        "last_layer": last,
        "clearest_layer": clearest,
        "outliers_per_image": float(np.median(counts)),
        "outliers_per_image_quartiles": [float(value) for value in np.quantile(counts, [0.25, 0.75])],
        "outliers_per_image_mean": float(counts.mean()),
        "outliers_per_image_interval": [float(value) for value in mean_interval(counts)],
        "images": images,
        "images_without": float((counts == 0).mean()),
        "typical": next((row["typical"] for row in lined if row["layer"] == clearest), None),
        "too_few_images": [row["layer"] for row in rows if row["answer"] == "too few images"],
        "widest_gap": _widest(rows, "width"),
        "widest_sink_gap": _widest(rows, "sink_width"),
        "attention": max((row["outlier_share"] for row in lined if row.get("outlier_share") is not None), default=None),
        "sink_layers": [row["layer"] for row in sunk],
        "sinks_measured": attention,
    }
    if sunk:
        strongest = max(sunk, key=lambda row: row["sink_share"])
        at = kept.sel(layer=strongest["layer"])
        summary |= {
            "sinks_per_image": strongest["sinks_per_image"],
            "sink_share": strongest["sink_share"],
            "sinks_that_are_outliers": _number(
                (at["sink"] & at["marked"]).sum().item() / max(at["sink"].sum().item(), 1)
            ),
        }
    if first is not None and clearest is not None:
        summary["written_in"] = _written_in(kept, first)
        summary["places"] = place_facts(kept["marked"].sel(layer=clearest), kept["score"].sel(layer=clearest))
    return summary


def _widest(rows: list[dict[str, Any]], width: str) -> dict[str, Any] | None:
    """The widest gap of all layers, in tail scales, and where it is."""
    known = [row for row in rows if width in row]
    row = max(known, key=lambda row: row[width], default=None)
    return None if row is None else {"layer": row["layer"], "width": row[width]}


def _extent(lined: list[dict[str, Any]]) -> tuple[int | None, int | None, int | None]:
    """First and last layer with outliers, and the one whose gap is widest."""
    if not lined:
        return None, None, None
    clearest = max(lined, key=lambda row: row["width"])["layer"]
    heights = {
        row["layer"]: np.log(row["typical"] / row["median"]) if row["median"] and row["median"] > 0 else 1.0
        for row in lined
    }
    grown = [layer for layer, height in heights.items() if height >= GROWN * max(heights.values())]
    return min(grown), max(grown), clearest


def _written_in(kept: xr.Dataset, first: int) -> int:
    """The block up to `first` over which the scores of its outliers grow most, as a factor."""
    marked = kept["marked"].sel(layer=first, drop=True)
    layers = [int(layer) for layer in kept["layer"].values if layer <= first]
    means = kept["score"].sel(layer=layers).where(marked).mean(("image", "row", "col")).values
    if len(layers) < 2 or not (means > 0).all():
        return first
    # Of layers that were not measured one after another, the later one is named.
    return layers[1 + int(np.diff(np.log(means)).argmax())]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
