"""`python -m benchmarks.run`: what looking inside costs, as ratios to the stock forward of the same weights.

Times are the median over rounds of each round's own ratio, with the order of the contestants turned from round to
round, so that a machine that speeds up or slows down on the way does not favour one of them. Memory is the peak of a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from torch import Tensor

import diagnostics
from diagnostics import Backbone
from diagnostics.compare import score_pictures, threshold_table
from diagnostics.images import normalise
from diagnostics.measures import DEFAULT_MEASURES, measures_of


def backbones() -> dict[str, Backbone]:
    """ViT-B/16 of both libraries, with random weights: speed does not depend on them."""
    import open_clip
    import timm

    from diagnostics.backbones.openclip import clip_backbone
    from diagnostics.backbones.timm import timm_backbone

    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-16", force_quick_gelu=True)
    return {
        "open_clip ViT-B/16": clip_backbone(
            clip, spec="ViT-B/16", mean=(0.5,) * 3, std=(0.5,) * 3, make_tokenizer=open_clip.SimpleTokenizer
        ),
        "timm ViT-B/16": timm_backbone(timm.create_model("vit_base_patch16_224"), "ViT-B/16"),
    }


def crops(backbone: Backbone, batch: int, size: tuple[int, int]) -> Tensor:
    """Crops of scikit-learn's two photographs: noise would be an odd picture to decompose."""
    photographs = [torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images]
    pieces = []
    for number in range(batch):
        photograph, step = photographs[number % 2], 10 * (number // 2)
        pieces.append(photograph[:, step : step + size[0], step : step + size[1]])
    return normalise(torch.stack(pieces), backbone.mean, backbone.std).to(backbone.device)


def ratios(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Name -> median over rounds of its time over the first contestant's, and median seconds."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for function in contestants.values():
        function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            start = time.perf_counter()
            contestants[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU works on after the call has come back
            times[name].append(time.perf_counter() - start)
    first = times[names[0]]
    return {
        name: (
            statistics.median(own / base for own, base in zip(times[name], first, strict=True)),
            statistics.median(times[name]),
        )
        for name in names
    }


def speed(backbone: Backbone, *, batch: int, size: tuple[int, int], rounds: int) -> dict[str, tuple[float, float]]:
    """The stock forward, our trunk, and the trunk with measures, on the same pictures."""
    images = crops(backbone, batch, size)
    labels = torch.randint(0, 5, (batch, backbone.layout(images).count))
    stock = backbone.model.encode_image if hasattr(backbone.model, "encode_image") else backbone.model
    layout = backbone.layout(images)
    everything = [part for part in measures_of(DEFAULT_MEASURES) if part.refusal(layout, labelled=True) is None]
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
    """One probe run, and twelve detectors with twenty thresholds at two layers and at all, on the same pictures."""
    pictures = sorted(folder.glob("*.jpg"))

    def compared(layers: list[int] | None) -> Callable[[], object]:
        return lambda: threshold_table(score_pictures(backbone, pictures, DETECTORS, layers=layers), thresholds=20)

    return ratios(
        {
            "one probe run, all measures": lambda: diagnostics.probe(backbone, pictures),
            "12 detectors x 20 thresholds, 2 layers": compared([8, 11]),
            "12 detectors x 20 thresholds, 12 layers": compared(None),
        },
        rounds,
    )


def peak_memory(count: int, folder: Path) -> float:
    """Peak memory in MB of a process that probes `count` pictures of `folder` into a store."""
    command = [sys.executable, "-m", "benchmarks.run", "--probe", str(count), "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["megabytes"])


def probe_and_tell(count: int, folder: Path, backbone: Backbone) -> None:
    """Probes and prints this process's peak memory; run in a process of its own."""
    pictures = sorted(folder.glob("*.jpg"))[:count]
    with tempfile.TemporaryDirectory() as out:
        diagnostics.probe(backbone, pictures, out=Path(out) / "run.zarr")
    print(json.dumps({"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def draw_pictures(count: int, folder: Path) -> None:
    """Random JPEGs of a common size."""
    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((512, 384)).save(folder / f"{number:05d}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="pictures in one forward")
    parser.add_argument("--rounds", type=int, default=9, help="timings of each")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory", type=int, nargs=2, default=(50, 500), help="picture counts whose peaks to compare")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory part out (it takes minutes)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.probe:
        probe_and_tell(options.probe, options.folder, backbones()["open_clip ViT-B/16"])
        return
    console = Console()
    for name, backbone in backbones().items():
        backbone.to(options.device)
        table = Table(title=f"{name}, batch {options.batch} of 224x224, {options.device}, {options.threads} threads")
        table.add_column("what")
        table.add_column("x stock", justify="right")
        table.add_column("ms a picture", justify="right")
        found = speed(backbone, batch=options.batch, size=(224, 224), rounds=options.rounds)
        for what, (ratio, seconds) in found.items():
            table.add_row(what, f"{ratio:.3f}", f"{1000 * seconds / options.batch:.1f}")
        console.print(table)
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(8, Path(folder))
        table = Table(title="comparing detectors, open_clip ViT-B/16, 8 pictures")
        table.add_column("what")
        table.add_column("x probe", justify="right")
        for what, (ratio, _) in comparison(
            backbones()["open_clip ViT-B/16"].to(options.device), Path(folder), rounds=max(1, options.rounds // 3)
        ).items():
            table.add_row(what, f"{ratio:.3f}")
        console.print(table)
    if not options.no_memory:
        few, many = options.memory
        with tempfile.TemporaryDirectory() as folder:
            draw_pictures(many, Path(folder))
            peaks = {count: peak_memory(count, Path(folder)) for count in (few, many)}
        console.print(
            f"peak memory of a probe with all measures, open_clip ViT-B/16: {peaks[few]:.0f} MB over {few} pictures, "
            f"{peaks[many]:.0f} MB over {many}: x {peaks[many] / peaks[few]:.3f}"
        )


if __name__ == "__main__":
    main()
