"""What bf16 changes: every detector, measure and method with a network in bf16 against the same one in fp32.

`python -m benchmarks.half_precision` prints its tables; `--backbone SPEC --images FOLDER --classes "cat, dog"` measures
another network. `--write` keeps the numbers in attention_outliers/half_precision.json, from which `outliers list` and
docs/half-precision.md have them; `--parts NAME` measures these parts alone. Nothing is timed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

import diagnostics
from diagnostics import Backbone, Recorder, load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.images import find_images, open_image
from diagnostics.measures import MEASURES
from diagnostics.options import RunOptions
from figures.lettering import backbone_name
from segment.datasets.shapes import NAMES, Shapes
from segment.encoders.second_backbone import SELF
from segment.methods import METHODS
from segment.segmenter import Segmenter
from segment.text.features import text_features

SCENES = 6
KEPT = Path(__file__).resolve().parents[1] / "attention_outliers" / "half_precision.json"
# Of 12: where outliers of ViT-Ti begin, and the layer before the last, which most methods look at.
LAYERS = (8, 11)


class Pair:
    """A network in fp32 and in bf16, and images for both; `classes` are words, or None."""

    def __init__(self, spec: str, images: Sequence[Image.Image], classes: Sequence[str] | None) -> None:
        self.images, self.classes = list(images), classes
        self.models: tuple[Backbone, Backbone] = (load_backbone(spec), load_backbone(spec, precision="bf16"))
        self.spec = self.models[0].spec

    @property
    def layers(self) -> list[int]:
        """LAYERS of 12 at this depth."""
        depth = self.models[0].depth
        return sorted({max(1, round(layer * depth / 12)) for layer in LAYERS})

    def tensors(self, model: Backbone) -> Tensor:
        """All images at the network's own size: (B, 3, h, w)."""
        loaded = [
            diagnostics.load_image(image, size=model.native_size, mean=model.mean, std=model.std)
            for image in self.images
        ]
        return torch.stack(loaded)


def chosen(names: Iterable[str], parts: Sequence[str]) -> list[str]:
    """The names among `parts`, all of them if that is empty."""
    return [name for name in names if not parts or name in parts]


def detectors(pair: Pair, parts: Sequence[str] = ()) -> pd.DataFrame:
    """Marks and scores of every detector: patches whose mark differs, of those that either marks, in per cent; marks an
    image in fp32; rank correlation of the scores.
    """
    rows = []
    for name in chosen(DETECTORS, parts):
        for layer in pair.layers:
            outcome = [_marks(name, model, pair.tensors(model), layer) for model in pair.models]
            if any(part is None for part in outcome):
                continue
            (scores, marked), (others, other_marks) = outcome  # type: ignore[misc]
            either = int((marked | other_marks).sum())
            differ = int((marked ^ other_marks).sum())
            ranks = [float(spearmanr(a, b).statistic) for a, b in zip(scores, others, strict=True) if np.ptp(a)]
            rows.append(
                {
                    "detector": name,
                    "layer": layer,
                    "marks an image": round(float(marked.sum(axis=1).mean()), 1),
                    "marks that differ, %": round(100 * differ / either, 1) if either else 0.0,
                    "rank correlation": round(float(np.mean(ranks)), 3) if ranks else float("nan"),
                }
            )
    return pd.DataFrame(rows)


def _marks(name: str, model: Backbone, images: Tensor, layer: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores and marks of a detector, (B, N) each; None where it can't run on this network or needs more than that."""
    layout = model.layout(images)
    try:
        detector = DETECTORS.build(name)
        if detector.unsupported_reason(layout):
            return None
        ready = detector.fitted(model, images, layer)
        recorder = Recorder(*ready.needs, layers=[layer])
        with torch.no_grad():
            model.trunk(images, tap=recorder)
            outliers = ready(recorder.recording.at(layer), layout)
    except (ValueError, ImportError):
        return None
    return outliers.scores.double().numpy(), outliers.mask.numpy()


def measures(pair: Pair, parts: Sequence[str] = ()) -> pd.DataFrame:
    """Every variable of every measure: the median and the largest difference, in per cent of its largest value; for
    whole numbers the entries that differ, in per cent.
    """
    rows = []
    for name in chosen(MEASURES, parts):
        try:
            runs = [
                diagnostics.probe(model, list(pair.images), measures=[name], options=RunOptions(size="native"))
                for model in pair.models
            ]
        except ValueError:  # it needs labels, or a class token
            continue
        for variable in runs[0].data_vars:
            first, second = (run[variable].values for run in runs)
            rows.append({"measure": name, "variable": str(variable), **_difference(first, second)})
    return pd.DataFrame(rows)


def _difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    if np.issubdtype(first.dtype, np.integer):
        return {
            "median, %": "",
            "largest, %": "",
            "entries that differ, %": round(100 * float((first != second).mean()), 1),
        }
    known = np.isfinite(first) & np.isfinite(second)
    top = float(np.abs(first[known]).max()) if known.any() else 0.0
    apart = 100 * np.abs(first[known] - second[known]) / top if top else np.zeros(1)
    return {
        "median, %": f"{float(np.median(apart)):.2g}",
        "largest, %": f"{float(apart.max()):.2g}",
        "entries that differ, %": "",
    }


def methods(pair: Pair, parts: Sequence[str] = ()) -> pd.DataFrame:
    """Every method: pixels whose label differs, in per cent, over all images and in the worst one."""
    rows = []
    for name in chosen(METHODS, parts):
        spec = name if METHODS[name].settings().get("vfm") in (None, SELF) else f"{name}:vfm={SELF}"
        try:
            labels = [list(_label_maps(spec, model, pair)) for model in pair.models]
        except ValueError:
            continue
        apart = [100 * float((a != b).mean()) for a, b in zip(*labels, strict=True)]
        rows.append(
            {
                "method": name,
                "labels that differ, %": round(float(np.mean(apart)), 2),
                "in the worst image, %": round(max(apart), 2),
            }
        )
    return pd.DataFrame(rows)


def _label_maps(spec: str, model: Backbone, pair: Pair) -> Iterator[np.ndarray]:
    text = text_features(model, list(pair.classes or ()), "plain", progress=False)
    segmenter = Segmenter(model, spec, text, windows="whole", size="native", strict=True)
    for segmentation in segmenter(pair.images):
        yield segmentation.labels


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [list(map(str, row)) for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Prints the tables of one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="pocket:planted")
    parser.add_argument("--images", type=Path, help="a folder of images; drawn scenes without")
    parser.add_argument("--classes", default="", help="words, with commas between; those of drawn scenes without")
    parser.add_argument("--limit", type=int, default=SCENES)
    parser.add_argument("--only", choices=("detectors", "measures", "methods"))
    parser.add_argument("--parts", default="", help="names of parts, with commas between")
    parser.add_argument("--write", action="store_true", help=f"keep the numbers in {KEPT.name}")
    asked = parser.parse_args()
    if asked.images is None:
        images = [Image.fromarray(sample.image) for sample in Shapes(scenes=asked.limit)]
        words: list[str] | None = list(NAMES)
    else:
        images = [open_image(path) for path in find_images(asked.images)[: asked.limit]]
        words = None
    if asked.classes:
        words = [word.strip() for word in asked.classes.split(",")]
    pair = Pair(asked.backbone, images, words)
    print(f"{pair.spec}, {len(images)} images, layers {pair.layers}\n")
    for what in (detectors, measures, methods):
        if asked.only in (None, what.__name__) and (what is not methods or words):
            table = what(pair, [part for part in asked.parts.split(",") if part])
            print(markdown(table), "\n", sep="")
            if asked.write:
                keep(what.__name__, backbone_name(pair.spec), table)


def keep(kind: str, network: str, table: pd.DataFrame) -> None:
    """Puts rows into the kept numbers, in the place of those of the same part and network."""
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    rows = kept.setdefault(kind, {}).setdefault(network, [])
    part = str(table.columns[0])
    measured = set(table[part])
    rows[:] = [row for row in rows if row[part] not in measured] + json.loads(table.to_json(orient="records"))
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
