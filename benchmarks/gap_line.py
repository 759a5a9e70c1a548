"""How often scores of one population have a line, by simulation: `python -m benchmarks.gap_line`.

Scores are over the median of their image, as those of `relative-norm` are. With `--run STORE`, a run of
`outliers probe` with the measure `norms`, images are drawn with replacement from its norms as well: those of a model
without outliers are one population.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from diagnostics.gap_line import GapLine

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def _each_image_its_scale(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return 10 + generator.lognormal(0, 0.5, (size[0], 1)) * np.abs(generator.standard_t(3, size))


POPULATIONS: dict[str, Draw] = {
    "normal": lambda generator, size: 10 + generator.normal(size=size),
    "log-normal": lambda generator, size: generator.lognormal(size=size),
    "exponential": lambda generator, size: 5 + generator.exponential(size=size),
    "t, 5 degrees": lambda generator, size: 10 + np.abs(generator.standard_t(5, size)),
    "t, 3 degrees": lambda generator, size: 10 + np.abs(generator.standard_t(3, size)),
    "Cauchy": lambda generator, size: 10 + np.abs(generator.standard_t(1, size)),
    "Pareto, index 3": lambda generator, size: 1 + generator.pareto(3, size),
    "Pareto, index 1": lambda generator, size: 1 + generator.pareto(1, size),
    "t, each image its scale": _each_image_its_scale,
}


def stored_norms(store: str, layer: int) -> Draw:
    """Draws images of a run with replacement: their norms at a layer."""
    from diagnostics import open_run

    norms = open_run(store)["norm"].sel(layer=layer).transpose("image", "row", "col").values
    flat = norms.reshape(len(norms), -1)
    return lambda generator, size: flat[generator.choice(len(flat), size[0])]


def false_alarms(draw: Draw, images: int, patches: int, runs: int, rule: GapLine) -> tuple[float, float]:
    """Share of runs with a line, and share of all images with a mark."""
    generator, lines, marked = np.random.default_rng(0), 0, 0.0
    for _ in range(runs):
        scores = draw(generator, (images, patches))
        scores = scores / np.nanmedian(scores, axis=1, keepdims=True)
        line = rule(scores)
        if line.threshold is not None:
            lines += 1
            marked += float((scores > line.threshold).any(axis=1).mean())
    return lines / runs, marked / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--alpha", type=float, default=GapLine().alpha)
    parser.add_argument("--runs", type=int, default=500, help="runs of 10 images; of 1 four times, of 100 a fifth")
    parser.add_argument("--patches", type=int, default=196)
    parser.add_argument("--run", help="a zarr store of outliers probe, with norms")
    options = parser.parse_args()
    rule, draws = GapLine(alpha=options.alpha), dict(POPULATIONS)
    if options.run:
        from diagnostics import open_run

        layers = [int(layer) for layer in open_run(options.run)["layer"].values]
        draws |= {f"norms at layer {layer}": partial(stored_norms(options.run, layer)) for layer in layers}
    print(f"{'population':<24}" + "".join(f"{images:>10} images" for images in (1, 10, 100)))
    for name, draw in draws.items():
        cells = []
        for images, runs in ((1, 4 * options.runs), (10, options.runs), (100, max(options.runs // 5, 1))):
            lines, marked = false_alarms(draw, images, options.patches, runs, rule)
            cells.append(f"{100 * lines:6.2f} {100 * marked:5.2f} %")
        print(f"{name:<24}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    main()
