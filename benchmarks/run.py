"""`python -m benchmarks.run`: what looking inside costs, as ratios to the stock forward of the same weights.

The first part is what commands cost before they do anything (benchmarks.startup).

How times are taken is said in benchmarks.ratios. Memory is the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

import diagnostics
from benchmarks import evaluation
from benchmarks.families import family_costs
from benchmarks.methods import bf16_speed, method_speed
from benchmarks.ratios import crops, random_clip, ratios
from benchmarks.startup import tell_startup
from diagnostics import Backbone
from diagnostics.measures import DEFAULT_MEASURES, measures_of
from diagnostics.studies.scoring import score_images
from diagnostics.studies.thresholds import threshold_table


def backbones() -> dict[str, Backbone]:
    """ViT-B/16 of both libraries, with random weights: speed does not depend on them."""
    import timm

    from diagnostics.backbones.timm import timm_backbone

    return {
        "open_clip ViT-B/16": random_clip(),
        "timm ViT-B/16": timm_backbone(timm.create_model("vit_base_patch16_224"), "ViT-B/16"),
    }


def speed(backbone: Backbone, *, batch: int, size: tuple[int, int], rounds: int) -> dict[str, tuple[float, float]]:
    """The stock forward, our trunk, and the trunk with measures, on the same images."""
    images = crops(backbone, batch, size)
    labels = torch.randint(0, 5, (batch, backbone.layout(images).count))
    stock = backbone.model.encode_image if hasattr(backbone.model, "encode_image") else backbone.model
    layout = backbone.layout(images)
    everything = [
        part for part in measures_of(DEFAULT_MEASURES) if part.unsupported_reason(layout, labeled=True) is None
    ]
    free = measures_of(["class-attention", "self-attention", "received-attention"])
    cheap = measures_of(["norms", "entropy", "class-attention"])

    def measured(parts: list[object]) -> Callable[[], dict[str, Tensor]]:
        return lambda: diagnostics.measure_images(backbone, images, parts, labels=labels)

    def plain() -> Tensor:
        with torch.no_grad():
            return backbone.trunk(images)

    def stock_forward() -> Tensor:
        with torch.no_grad():
            return stock(images)  # type: ignore[operator, no-any-return]

    contestants: dict[str, Callable[[], object]] = {
        "stock forward": stock_forward,
        "trunk, no taps": plain,
        "norms, entropy, class row": measured(cheap),
        "class row, diagonal, column mass": measured(free),
        f"all {len(everything)} measures but whole maps": measured(everything),
    }
    return ratios(contestants, rounds)


# Twelve detectors of all kinds, for the price of a comparison.
DETECTORS = (
    "norm", "relative-norm", "norm-topk", "massive", "channel-peak", "som", "som-release", "lof", "lof-release",
    "class-residual", "received-attention", "stripe",
)  # fmt: skip


def comparison(backbone: Backbone, folder: Path, *, rounds: int) -> dict[str, tuple[float, float]]:
    """One probe run, and twelve detectors with twenty thresholds at two layers and at all, on the same images."""
    images = sorted(folder.glob("*.jpg"))

    def compared(layers: list[int] | None) -> Callable[[], object]:
        return lambda: threshold_table(score_images(backbone, images, DETECTORS, layers=layers), thresholds=20)

    return ratios(
        {
            "one probe run, all measures": lambda: diagnostics.probe(backbone, images),
            "12 detectors x 20 thresholds, 2 layers": compared([8, 11]),
            "12 detectors x 20 thresholds, 12 layers": compared(None),
        },
        rounds,
    )


def peak_memory(count: int, folder: Path) -> float:
    """Peak memory in MB of a process that probes `count` images of `folder` into a store."""
    command = [sys.executable, "-m", "benchmarks.run", "--probe", str(count), "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["megabytes"])


def probe_and_tell(count: int, folder: Path, backbone: Backbone) -> None:
    """Probes and prints this process's peak memory; run in a process of its own."""
    images = sorted(folder.glob("*.jpg"))[:count]
    with tempfile.TemporaryDirectory() as out:
        diagnostics.probe(backbone, images, out=Path(out) / "run.zarr")
    print(json.dumps({"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def draw_images(count: int, folder: Path) -> None:
    """Random JPEGs of a common size."""
    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((512, 384)).save(folder / f"{number:05d}.jpg")


def tell_evaluation(console: Console, backbone: Backbone, *, images: int, batch: int, rounds: int) -> None:
    """Prints what an evaluation costs beside the network, in time for an image."""
    costs = evaluation.end_to_end(backbone, images=images, batch=batch, rounds=rounds)
    table = Table(
        title=f"evaluate: from JPEG to counts, {evaluation.DATASET} of 500x375, {backbone.device}, one thread"
    )
    table.add_column("method")
    table.add_column("x stock forward", justify="right")
    table.add_column("x its own forward", justify="right")
    table.add_column("ms an image", justify="right")
    for method, cost in costs.items():
        table.add_row(method, f"{cost.to_stock:.3f}", f"{cost.to_own:.3f}", f"{1000 * cost.seconds:.1f}")
    console.print(table)


def tell_evaluation_memory(console: Console, few: int, many: int) -> None:
    """Prints peaks of memory over few and many images, and over large ones of many classes."""
    with tempfile.TemporaryDirectory() as folder:
        evaluation.draw_voc(Path(folder), many)
        less, more = (evaluation.peak_memory(count, Path(folder)) for count in (few, many))
    console.print(
        f"peak memory of evaluate, open_clip ViT-B/16: {less.peak:.0f} MB over {few} images, {more.peak:.0f} MB over "
        f"{many}: x {more.peak / less.peak:.3f}"
    )
    large = evaluation.peak_memory()
    width, height = evaluation.LARGE
    console.print(
        f"{evaluation.CLASSES} classes, images of {width}x{height}: {large.peak - large.model:.0f} MB over the "
        f"model's {large.model:.0f}"
    )


def tell_memory(console: Console, few: int, many: int) -> None:
    """Prints the peaks of memory of a probe over few and many images."""
    with tempfile.TemporaryDirectory() as folder:
        draw_images(many, Path(folder))
        peaks = {count: peak_memory(count, Path(folder)) for count in (few, many)}
    console.print(
        f"peak memory of a probe with all measures, open_clip ViT-B/16: {peaks[few]:.0f} MB over {few} images, "
        f"{peaks[many]:.0f} MB over {many}: x {peaks[many] / peaks[few]:.3f}"
    )


PARTS = ("startup", "measures", "families", "methods", "bf16", "compare", "evaluate", "memory")


def _asked() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="images in one forward")
    parser.add_argument("--rounds", type=int, default=9, help="timings of each")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory", type=int, nargs=2, default=(50, 500), help="image counts whose peaks to compare")
    parser.add_argument("--images", type=int, default=8, help="images of an evaluation")
    parser.add_argument("--evaluated", type=int, nargs=2, default=(10, 60), help="the same for the peaks of evaluate")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory part out (it takes minutes)")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Prints the tables of all parts, or of those that were asked for."""
    options = _asked()
    torch.set_num_threads(options.threads)

    def wanted(part: str) -> bool:
        return part in (options.only or PARTS) and not (part == "memory" and options.no_memory)

    if options.probe:
        probe_and_tell(options.probe, options.folder, backbones()["open_clip ViT-B/16"])
        return
    console = Console()
    if wanted("startup"):
        tell_startup(console, options.rounds)
    setting = f"batch {options.batch} of 224x224, {options.device}, {options.threads} threads"

    def tell(title: str, rows: dict[str, tuple[float, float]]) -> None:
        table = Table(title=title)
        table.add_column("what")
        table.add_column("x first", justify="right")
        table.add_column("ms an image", justify="right")
        for what, (ratio, seconds) in rows.items():
            table.add_row(what, f"{ratio:.3f}", f"{1000 * seconds / options.batch:.1f}")
        console.print(table)

    models = {name: backbone.to(options.device) for name, backbone in backbones().items()}
    for name, backbone in models.items():
        if wanted("measures"):
            tell(
                f"measures: {name}, {setting}",
                speed(backbone, batch=options.batch, size=(224, 224), rounds=options.rounds),
            )
    if wanted("families"):
        torch.set_num_threads(1)
        rows = family_costs(batch=2, rounds=options.rounds, device=options.device)
        tell(f"trunk and pool against the stock forward, 2 images, {options.device}, one thread", rows)
        torch.set_num_threads(options.threads)
    clip = models["open_clip ViT-B/16"]
    if wanted("methods"):
        tell(f"methods: features, {setting}", method_speed(clip, batch=options.batch, rounds=options.rounds))
    if wanted("bf16"):
        tell(f"methods: precision, {setting}", bf16_speed(clip, batch=options.batch, rounds=options.rounds))
    if wanted("compare"):
        with tempfile.TemporaryDirectory() as folder:
            draw_images(8, Path(folder))
            tell(
                "comparing detectors, open_clip ViT-B/16, 8 images",
                comparison(clip, Path(folder), rounds=max(1, options.rounds // 3)),
            )
    if wanted("evaluate"):
        torch.set_num_threads(1)  # as a worker has it by default, one on each core
        rounds = max(1, options.rounds // 3)
        tell_evaluation(console, clip, images=options.images, batch=options.batch, rounds=rounds)
        if not options.no_memory:
            tell_evaluation_memory(console, *options.evaluated)
        torch.set_num_threads(options.threads)
    if wanted("memory"):
        tell_memory(console, *options.memory)


if __name__ == "__main__":
    main()
