"""The outliers of a few images: the image, its scores with the marks, and its features as colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from diagnostics.studies.profile import Profile
from figures.curves.profile_curves import shown_layer
from figures.look import FULL
from figures.maps.heatmap import draw_heatmap
from figures.maps.layer_maps import SATURATED
from figures.maps.scales import color_scale
from figures.sheet import BAR, BAR_TEXT, GAP, MARGIN, Bar, Columns, Row, Tile, bare, draw_image, sheet, tile_size

MARK = "#00E5FF"  # seen on every color of the map
SIDE = 1.15  # inches for the words beside the rows
MOST_IMAGES = 6
LARGEST_TILE = 1.1


def common_colors(features: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Three principal components of the patches of several images as colors, on one basis for all of them.

    (images, rows, cols, D), (images, rows, cols) bool -> (images, rows, cols, 3) in [0, 1]. The basis and the scale
    are those of the patches that are not marked; marked ones are shown on it. So equal colors mean equal features in
    all the images.
    """
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    ordinary = flat[~marked.reshape(-1)]
    ordinary = ordinary if len(ordinary) > 3 else flat
    center = ordinary.mean(axis=0)
    _, _, axes = np.linalg.svd(ordinary - center, full_matrices=False)
    axes = axes[:3] * np.sign(axes[:3].sum(axis=1, keepdims=True) + 1e-12)
    low, high = np.percentile((ordinary - center) @ axes.T, [SATURATED, 100 - SATURATED], axis=0)
    colors = ((flat - center) @ axes.T - low) / np.maximum(high - low, 1e-12)
    return np.pad(colors.clip(0, 1), ((0, 0), (0, 3 - len(axes)))).reshape(*features.shape[:-1], 3)


def profile_maps(
    profile: Profile,
    pixels: Mapping[str, np.ndarray] | None = None,
    *,
    images: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Images side by side; below each its scores with the marked patches framed, and its features in colors.

    Scores are those of the layer in which outliers stand out most; features those of the last layer, their three
    principal components on one basis for all images (left out where the model was not looked into).

    Parameters
    ----------
    profile : Profile
        Of one backbone, as `ao.profile` makes it.
    pixels : dict of str to array (H, W, 3), or None
        Images by their name, to be shown above their maps.
    images : list of str, or None
        Names of the images; the first by default.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        For a profile that was read from a file, which has no scores.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> profile = ao.profile(ao.load_backbone("tiny"), scenes, size=64)
    >>> type(ao.profile_maps(profile)).__name__
    'Figure'
    """
    if profile.scores is None:
        raise ValueError("a profile that was read from a file has no scores to draw; make it from images or a run.")
    examined = profile.examined
    names = list(images or (examined.names if examined else [str(name) for name in profile.scores["image"].values]))
    names = names[:MOST_IMAGES]
    layer = shown_layer(profile)
    at = profile.scores.sel(layer=layer).sel(image=names)
    scores = at["score"].transpose("image", "row", "col").values
    marked = at["marked"].transpose("image", "row", "col").values
    width, height = tile_size(
        FULL - MARGIN - SIDE - GAP - BAR - BAR_TEXT, len(names), scores.shape[1:], largest=LARGEST_TILE
    )
    columns = Columns(count=len(names), tile=width, slot=width, side=SIDE, right=GAP + BAR + BAR_TEXT)
    rows = []
    if pixels:
        rows.append(Row(tiles=[_image_tile(name, pixels.get(name), width, height) for name in names], label="image"))
    scale = color_scale(scores)
    tiles = [
        _score_tile(name, values, marks, scale, height)
        for name, values, marks in zip(names, scores, marked, strict=True)
    ]
    label = f"{profile.facts['detector']},\nlayer {layer},\nmarked framed"
    rows.append(Row(tiles=tiles, label=label, bar=Bar(scale, scores)))
    if examined is not None and set(names) <= set(examined.names):
        places = [examined.names.index(name) for name in names]
        last = profile.scores["marked"].isel(layer=-1).sel(image=list(examined.names))
        grid = examined.features.shape[1:3]
        marks = last.transpose("image", "row", "col").values[:, : grid[0], : grid[1]]
        colors = common_colors(examined.features, marks)[places]
        tiles = [_color_tile(name, color, height) for name, color in zip(names, colors, strict=True)]
        rows.append(Row(tiles=tiles, label="3 principal components, last layer"))
    return sheet(rows, columns, title=title)


def _image_tile(name: str, image: np.ndarray | None, width: float, height: float) -> Tile | None:
    if image is None:
        return None

    def draw(ax: Axes) -> None:
        draw_image(ax, image)

    return Tile(draw=draw, name=f"image {name}", height=height)


def _score_tile(name: str, values: np.ndarray, marks: np.ndarray, scale: Normalize, height: float) -> Tile:
    def draw(ax: Axes) -> None:
        draw_heatmap(ax, values, scale=scale, aspect="auto")
        for row, col in np.argwhere(marks):
            ax.add_patch(
                Rectangle((col - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=MARK, linewidth=0.8, clip_on=False)
            )
        bare(ax)

    return Tile(draw=draw, name=f"scores {name}", height=height)


def _color_tile(name: str, colors: np.ndarray, height: float) -> Tile:
    def draw(ax: Axes) -> None:
        ax.imshow(colors, interpolation="nearest", aspect="auto")
        bare(ax)

    return Tile(draw=draw, name=f"features {name}", height=height)
