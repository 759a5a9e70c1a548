"""A data set as `diagnostics.probe` returns it: random, with the story of an outlier in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import xarray as xr

ATTRS = {
    "norm": ("model units", "norm of the patch"),
    "class_norm": ("model units", "norm of the class token"),
    "norm_ratio": ("1", "largest over median patch norm"),
    "norm_outliers": ("1", "patches above 3 x median norm"),
    "frobenius": ("model units", "Frobenius norm"),
    "peak": ("model units", "largest entry"),
    "entropy": ("1", "normalized entropy"),
    "channel_peak": ("model units", "largest magnitude of the channel over patches"),
    "channel_mean": ("1", "channel mean over largest |channel mean|"),
    "massive_count": ("1", "number of massive activations"),
    "channel_kurtosis": ("1", "kurtosis of channel magnitudes"),
    "class_attention": ("1", "attention of the class token to the patch"),
    "self_attention": ("1", "attention of the patch to itself"),
    "received_attention": ("1", "attention received, mean over patch queries"),
    "stripe_contrast": ("1", "largest over median received attention"),
    "attention_entropy": ("nat", "mean entropy of attention rows"),
    "rank_one_share": ("1", "share of the largest squared singular value"),
    "attention_distance": ("pixel", "mean attention distance"),
    "auc": ("1", "AUC of same-class pairs"),
    "auc_pooled": ("1", "AUC of same-class pairs, pooled over images"),
    "roc": ("1", "rates when pairs of this bin and above count as same"),
    "layer_cka": ("1", "linear CKA of the tokens of two layers"),
    "pca": ("1", "principal components of the tokens"),
}


def make_probed(
    *,
    images: int = 3,
    layers: int = 12,
    heads: int = 6,
    grid: tuple[int, int] = (5, 7),
    channels: int = 48,
    jump: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Norms of two patches rise twenty-fold at layer `jump` (two thirds in by default), carried by channel 11.

    From the next layer on, attention goes to them and the residual stream's entropy falls.
    """
    rng = np.random.default_rng(seed)
    rows, cols = grid
    jump = jump or max(1, round(2 * layers / 3))
    layer = np.arange(1, layers + 1)
    after = (layer >= jump).astype(float)
    planted = np.zeros((images, rows, cols))
    for image in range(images):
        planted[image].flat[rng.choice(rows * cols, size=min(2, rows * cols), replace=False)] = 1.0

    def noise(*shape: int, scale: float = 0.1) -> np.ndarray:
        return np.exp(scale * rng.standard_normal(shape))

    data: dict[str, tuple[Sequence[str], np.ndarray]] = {}
    growth = 8 + 1.5 * layer
    norm = growth[None, :, None, None] * noise(images, layers, rows, cols)
    norm *= 1 + 20 * planted[:, None] * after[None, :, None, None]
    data["norm"] = (("image", "layer", "row", "col"), norm)
    data["class_norm"] = (("image", "layer"), 0.8 * growth * noise(images, layers))
    flat = norm.reshape(images, layers, -1)
    ratio = flat.max(-1) / np.median(flat, -1)
    data["norm_ratio"] = (("image", "layer"), ratio)
    data["norm_outliers"] = (("image", "layer"), (flat > 3 * np.median(flat, -1, keepdims=True)).sum(-1))
    streams = ("image", "layer", "stream")
    quiet = np.ones((images, layers))
    fall = 0.97 - 0.9 * after[None] * noise(images, layers, scale=0.02)
    data["entropy"] = (streams, np.stack([fall, 0.99 * quiet, np.clip(fall + 0.01, 0, 1)], -1))
    peak = 3 * (1 + 80 * after[None]) * noise(images, layers)
    data["peak"] = (streams, np.stack([peak, 4 * noise(images, layers), 1.1 * peak], -1))
    total = np.sqrt((flat**2).sum(-1))
    data["frobenius"] = (streams, np.stack([total, 0.3 * growth * noise(images, layers), 1.05 * total], -1))
    data["massive_count"] = (("image", "layer"), (2 * after[None] * quiet).astype(int))
    data["channel_kurtosis"] = (("image", "layer"), 3 + 300 * after[None] * noise(images, layers))
    channel_peak = 3 * noise(images, layers, channels, scale=0.4)
    channel_peak[:, :, 11] *= 1 + 60 * after
    data["channel_peak"] = (("image", "layer", "channel"), channel_peak)
    channel_mean = 0.05 * rng.standard_normal((images, layers, channels))
    channel_mean[:, :, 11] += 0.1 + 3 * after
    data["channel_mean"] = (("image", "layer", "channel"), channel_mean)

    drawn_to = (1 + 30 * planted[:, None, None] * (layer > jump)[None, :, None, None, None]) / (rows * cols)
    for name, sharpness in (("class_attention", 0.8), ("received_attention", 0.2), ("self_attention", 0.5)):
        maps = drawn_to * noise(images, layers, heads, rows, cols, scale=sharpness)
        maps /= maps.sum((-1, -2), keepdims=True)
        data[name] = (("image", "layer", "head", "row", "col"), maps)
    received = data["received_attention"][1].reshape(images, layers, heads, -1)
    by_head = ("image", "layer", "head")
    data["stripe_contrast"] = (by_head, received.max(-1) / np.median(received, -1))
    data["attention_entropy"] = (by_head, np.log(rows * cols) * (0.9 - 0.3 * rng.random((images, layers, heads))))
    data["rank_one_share"] = (by_head, 0.2 + 0.5 * after[None, :, None] * rng.random((images, layers, heads)))
    data["attention_distance"] = (by_head, 20 + 60 * rng.random((images, layers, heads)))

    area = 0.62 + 0.14 * np.exp(-(((layer - 0.6 * layers) / (0.3 * layers)) ** 2))
    data["auc"] = (("image", "layer"), area + 0.02 * rng.standard_normal((images, layers)))
    data["auc_pooled"] = (("layer",), area)
    fpr = np.linspace(0, 1, 33)[::-1]  # thresholds ascend, rates fall
    tpr = fpr[None] ** (1 / area - 1)[:, None]  # the area under x^a is 1 / (a + 1)
    data["roc"] = (("layer", "bin", "rate"), np.stack([np.broadcast_to(fpr, tpr.shape), tpr], -1))
    apart = np.abs(layer[:, None] - layer[None])
    data["layer_cka"] = (("image", "layer", "other_layer"), np.exp(-apart / layers)[None] * quiet[:, :1, None])
    down, across = np.mgrid[0:rows, 0:cols]
    waves = np.stack([np.sin(down / 2), np.cos(across / 3), np.sin((down + across) / 4)])
    pca = waves + 0.2 * rng.standard_normal((images, layers, 3, rows, cols))
    data["pca"] = (("image", "layer", "component", "row", "col"), pca)

    variables = {
        name: (
            dims,
            values.astype(np.float32 if values.dtype == float else np.int32),
            dict(zip(("units", "long_name"), ATTRS[name], strict=True)),
        )
        for name, (dims, values) in data.items()
    }
    coordinates = {
        "image": [f"birds/image {number}.jpg" for number in range(images)],
        "layer": layer,
        "other_layer": layer,
        "head": np.arange(1, heads + 1),
        "channel": np.arange(channels),
        "stream": ["block_in", "attn_out", "block_sum"],
        "rate": ["fpr", "tpr"],
        "bin": np.linspace(-1, 1, 33),
        "rows": ("image", np.full(images, rows)),
        "cols": ("image", np.full(images, cols)),
    }
    return xr.Dataset(variables, coords=coordinates)


def make_scores(
    *,
    images: int = 3,
    layers: int = 12,
    grid: tuple[int, int] = (5, 7),
    detectors: Sequence[str] = ("norm:threshold=30", "norm-topk", "lof", "random"),
    seed: int = 0,
    **unused: object,
) -> xr.Dataset:
    """Scores as `diagnostics.studies.scoring.score_images` gives them, with two planted patches an image.

    `lof` is blind to them and `random` knows nothing; the others score them 20 times as high as the rest. Thresholds
    are 30, none, 1.5 and none.
    """
    rng = np.random.default_rng(seed)
    rows, cols = grid
    layer = np.arange(1, layers + 1)
    planted = np.zeros((images, rows, cols), dtype=bool)
    for image in range(images):
        planted[image].flat[rng.choice(rows * cols, size=min(2, rows * cols), replace=False)] = True
    score = np.exp(0.2 * rng.standard_normal((len(detectors), images, layers, rows, cols)))
    thresholds = np.full(len(detectors), np.nan)
    for place, spec in enumerate(detectors):
        if spec.startswith("norm"):
            score[place] *= 10 + 190 * planted[:, None]
        if spec == "norm:threshold=30":
            thresholds[place] = 30.0
        if spec == "lof":
            thresholds[place] = 1.5
    highest = score >= np.sort(score.reshape(*score.shape[:3], -1))[..., -min(2, rows * cols), None, None]
    marked = np.where(
        np.isfinite(thresholds)[:, None, None, None, None], score > thresholds[:, None, None, None, None], highest
    )
    dims = ("detector", "image", "layer", "row", "col")
    return xr.Dataset(
        {
            "score": (dims, score.astype(np.float32), {"units": "of each detector", "long_name": "outlier score"}),
            "marked": (dims, marked, {"units": "1", "long_name": "marked by the detector's own threshold"}),
            "inside": (("image", "row", "col"), np.ones_like(planted), {"units": "1"}),
            "planted": (("image", "row", "col"), planted, {"units": "1"}),
            "seconds": ("detector", np.full(len(detectors), 1e-3), {"units": "second"}),
        },
        coords={
            "detector": list(detectors),
            "image": [f"birds/image {number}.jpg" for number in range(images)],
            "layer": layer,
            "threshold": ("detector", thresholds),
        },
    )


@pytest.fixture(scope="session")
def make() -> Callable[..., xr.Dataset]:
    """Makes probed data sets of any size."""
    return make_probed


@pytest.fixture
def probed() -> xr.Dataset:
    """3 images, 12 layers, 6 heads, a 5 x 7 grid, 48 channels; the jump at layer 8."""
    return make_probed()


@pytest.fixture(scope="session")
def make_scored() -> Callable[..., xr.Dataset]:
    """Makes data sets of detectors' scores of any size."""
    return make_scores


@pytest.fixture
def scores() -> xr.Dataset:
    """4 detectors, 3 images, 12 layers, a 5 x 7 grid, 2 planted patches an image."""
    return make_scores()
