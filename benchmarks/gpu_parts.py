"""The parts of `benchmarks.gpu`: each yields rows, one a check, for a device against the CPU."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

import diagnostics
from benchmarks.methods import NAMED, words
from diagnostics import Backbone, load_backbone
from diagnostics.backbones.tiny import Kind
from diagnostics.detectors import DETECTORS
from diagnostics.measures import MEASURES
from diagnostics.studies.scoring import score_images
from segment.encoders.encode_many import encode_many
from segment.evaluation.engines import Local
from segment.evaluation.evaluate import evaluate
from segment.methods import METHODS

# Largest differences to the CPU in the same precision, over the largest value, that pass. Our choice: fp32 sums in
# another order through twelve blocks; bf16 has a mantissa of 8 bits, and outliers grow what rounding makes.
FP32, BF16 = 1e-4, 0.1
# Of numbers behind thresholds, ranks and logarithms.
DERIVED = 1e-2
# Weights and positions that two precisions share; a grid that is not square.
SIZE = (64, 96)
WHOLE = "tiny:outliers=true"
# Images at once that fit, and that do not.
FEW, MANY = 4, 64


class Row(NamedTuple):
    """A check: its part, what was compared, the result in each precision, whether it failed, and why."""

    part: str
    what: str
    fp32: str = ""
    bf16: str = ""
    failed: bool = False
    note: str = ""


@lru_cache(maxsize=8)
def model_of(spec: str, precision: Literal["fp32", "bf16"], device: str) -> Backbone:
    """A model, loaded once for all checks in a row."""
    return load_backbone(spec, precision=precision, device=device)


def images_of(backbone: Backbone, size: tuple[int, int] = SIZE) -> Tensor:
    """Two seeded images, on the CPU."""
    del backbone
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def difference(values: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value; infinity where one has NaN and the other has not."""
    values, expected = values.detach().double().cpu(), expected.detach().double().cpu()
    if values.shape != expected.shape or not torch.equal(values.isfinite(), expected.isfinite()):
        return math.inf
    inside = expected.isfinite()
    if not inside.any():
        return 0.0
    largest = float(expected[inside].abs().max())
    return float((values[inside] - expected[inside]).abs().max()) / (largest or 1.0)


def compared(part: str, what: str, spec: str, device: str, work: Callable[[Backbone], Tensor], limit: float) -> Row:
    """A row of `work` on the device against `work` on the CPU, in both precisions; bf16 has its own limit."""
    results, failed = {}, False
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    for precision in precisions:
        expected = work(model_of(spec, precision, "cpu"))
        value = difference(work(model_of(spec, precision, device)), expected)
        results[precision] = f"{value:.1e}"
        if precision == "fp32":
            failed |= value > limit
        else:  # ranks and thresholds turn over where rounding does; there only a NaN counts
            failed |= value > (BF16 if limit == FP32 else 1e9)
    return Row(part, what, results["fp32"], results["bf16"], failed)


def family_specs() -> list[str]:
    """A tiny model of every family, and the trained one."""
    kinds = [kind for kind in get_args(Kind) if kind != "plain"]
    specs = ["tiny", "tiny:class_token=false", "tiny:registers=4", *(f"tiny:kind={kind}" for kind in kinds)]
    return [*specs, *(f"tiny:kind={kind},registers=4" for kind in kinds if kind.startswith("rotary")), "pocket"]


def families(device: str) -> Iterator[Row]:
    """The output of each family's tiny model, on a grid that is not square."""
    for spec in family_specs():
        yield compared("families", f"`{spec}`", spec, device, lambda backbone: backbone(images_of(backbone)), FP32)
    yield compared("families", "texts of `tiny`", "tiny", device, lambda model: model.encode_text(["a zebra"]), FP32)


def measures(device: str) -> Iterator[Row]:
    """Every measure at every layer; several variables of one by their largest difference."""
    for name in MEASURES:
        part = MEASURES.build(name)
        layout = model_of("tiny", "fp32", "cpu").layout(SIZE)
        reason = part.unsupported_reason(layout, labeled=True)
        if reason:
            yield Row("measures", f"`{name}`", note=f"skipped: {reason}")
            continue

        def work(backbone: Backbone, name: str = name) -> Tensor:
            labels = torch.arange(backbone.layout(SIZE).count).expand(2, -1) % 5
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = diagnostics.measure_images(
                    backbone, images_of(backbone), [MEASURES.build(name)], labels=labels
                )
            return torch.cat([scaled(results[key]) for key in sorted(results)])

        yield compared("measures", f"`{name}`", "tiny", device, work, DERIVED)


def scaled(values: Tensor) -> Tensor:
    """A variable as a row of numbers of size 1, so that several fit into one row."""
    flat = values.detach().double().cpu().flatten()
    inside = flat[flat.isfinite()]
    return flat / (float(inside.abs().max()) if len(inside) and inside.abs().max() > 0 else 1.0)


def scenes(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Seeded images (h, w, 3) uint8."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def detectors(device: str) -> Iterator[Row]:
    """Scores of every detector where outliers are; what learns does so on each device by itself."""
    for name in DETECTORS:

        def work(backbone: Backbone, name: str = name) -> Tensor:
            scores = score_images(backbone, scenes(2, (96, 128)), [name], layers=[8], size="128x96", progress=False)
            return torch.from_numpy(scores["score"].values)

        try:
            yield compared("detectors", f"`{name}`", WHOLE, device, work, DERIVED)
        except (ValueError, ImportError) as error:  # a library or a file that it needs
            yield Row("detectors", f"`{name}`", note=f"skipped: {str(error)[:120]}")


def methods(device: str) -> Iterator[Row]:
    """Dense features of every method that needs no download."""
    for name in METHODS:
        known = METHODS[name].settings()
        offline = {"vfm": "tiny(seed=5)", "vfm_size": "none"} if known.get("vfm") not in (None, "self") else {}
        fields = ",".join(f"{key}={value}" for key, value in offline.items() if key in known)
        spec = f"{name}:{fields}" if fields else NAMED.get(name, name)

        def work(backbone: Backbone, spec: str = spec) -> Tensor:
            images = images_of(backbone, (96, 128)).to(backbone.device)
            labels = torch.zeros(2, 96, 128, dtype=torch.long)
            labels[:, :, 64:] = 1
            return encode_many(backbone, images, [spec], text=words(backbone), labels=labels)[0].patches

        try:
            yield compared("methods", f"`{name}`", "tiny", device, work, DERIVED)
        except (ValueError, OSError) as error:  # what it needs is not on this machine
            yield Row("methods", f"`{name}`", note=f"skipped: {str(error)[:120]}")


def memory(device: str) -> Iterator[Row]:
    """Batches are halved where a real GPU runs out of memory, and the numbers stay."""
    what = "a batch that is too large is halved"
    if torch.device(device).type != "cuda":
        yield Row("memory", what, note="skipped: only a GPU has a limit that can be set")
        return
    from benchmarks.ratios import random_clip

    images = scenes(MANY, (224, 224))
    torch.cuda.empty_cache()
    backbone = random_clip().to(device)
    total = torch.cuda.get_device_properties(device).total_memory
    alone = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    expected = diagnostics.probe(backbone, images, measures=["norms"], batch=FEW, progress=False)["norm"]
    # Room for three times as much beside the weights as a few images take.
    room = alone + 3 * max(torch.cuda.max_memory_reserved(device) - alone, 2**24)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_stats(device)["num_ooms"]
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total), device)
    try:
        values = diagnostics.probe(backbone, images, measures=["norms"], batch=MANY, progress=False)["norm"]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    times = torch.cuda.memory_stats(device)["num_ooms"] - before
    value = difference(torch.from_numpy(values.values), torch.from_numpy(expected.values))
    note = f"{MANY} images at once ran out of memory {times} times, with room for about {3 * FEW}"
    yield Row("memory", what, f"{value:.1e}", failed=value > FP32 or not times, note=note)


def workers(device: str) -> Iterator[Row]:
    """Two processes on one device count what one does."""
    miou = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            result = evaluate(
                "tiny",
                "clip",
                "shapes:scenes=4",
                out=Path(folder) / "run",
                engine=Local(workers=count),
                device=device,
                shard=1,
                progress=False,
            )
        miou[count] = result.cells[0].miou
    failed = miou[1] is None or miou[1] != miou[2]
    note = "" if not failed else f"mean IoU {miou[1]} by one worker, {miou[2]} by two"
    yield Row("workers", "two on one device", "equal" if not failed else "unequal", failed=failed, note=note)


def times(device: str, *, batch: int = 32, rounds: int = 7, images: int = 16) -> Iterator[Row]:
    """Ratios to the stock forward of ViT-B/16, of the trunk, of measures, and of evaluations from JPEG to counts."""
    if torch.device(device).type != "cuda":
        yield Row("times", "ratios to the stock forward", note="skipped: `make bench` has those of a CPU")
        return
    from benchmarks.ratios import random_clip

    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        yield from ratios_of(random_clip().to(device, dtype), precision, batch=batch, rounds=rounds, images=images)


def ratios_of(backbone: Backbone, precision: str, *, batch: int, rounds: int, images: int) -> Iterator[Row]:
    """Ratios to the stock forward of a CLIP of 224 pixels, wherever it is."""
    from benchmarks import evaluation
    from benchmarks.run import speed

    def row(what: str, ratio: float, seconds: float) -> Row:
        cell = {precision: f"{ratio:.3f}"}
        return Row("times", what, cell.get("fp32", ""), cell.get("bf16", ""), note=f"{1000 * seconds:.2f} ms an image")

    for what, (ratio, seconds) in speed(backbone, batch=batch, size=(224, 224), rounds=rounds).items():
        yield row(what, ratio, seconds / batch)
    few = max(1, rounds // 3)
    if hasattr(diagnostics, "profile"):
        ratio, seconds = _profiled(backbone, batch, few)
        yield row("profile, from arrays to its tables", ratio, seconds / batch)
    for what, cost in evaluation.end_to_end(backbone, images=images, batch=batch, rounds=few).items():
        yield row(f"evaluate `{what}`, from JPEG to counts", cost.to_stock, cost.seconds)


def _profiled(backbone: Backbone, batch: int, rounds: int) -> tuple[float, float]:
    from benchmarks.ratios import ratios

    arrays = scenes(batch, (224, 224))
    images = images_of(backbone, (224, 224)).to(backbone.device, backbone.dtype).repeat(batch // 2, 1, 1, 1)
    contestants: dict[str, Callable[[], object]] = {
        "stock": lambda: _forward(backbone, images),
        "profile": lambda: diagnostics.profile(backbone, arrays, batch=batch, progress=False),  # type: ignore[attr-defined]
    }
    return ratios(contestants, rounds)["profile"]


def _forward(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        return backbone.model.encode_image(images)  # type: ignore[operator, no-any-return]
