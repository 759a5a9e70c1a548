"""The tokens of one image in the plane of their first two principal components."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.look import BLUE, COLUMN, INK, QUIET, VERMILION, drawing


def principal_plane(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n, D) in the plane of their two largest components, (n, 2), and the share of variance of each, (2)."""
    centered = np.asarray(tokens, np.float64)
    centered = centered - centered.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    total = float((sizes**2).sum())
    return left[:, :2] * sizes[:2], sizes[:2] ** 2 / total if total else np.zeros(2)


def draw_token_scatter(
    ax: Axes,
    patches: np.ndarray,
    marked: np.ndarray,
    class_token: np.ndarray | None = None,
    *,
    outlier: str = "outlier",
) -> None:
    """Patches (N, D) as dots, those marked (N) in another color and form, the class token (D) as a star.

    `outlier` is what the legend calls those marked.
    """
    everything = patches if class_token is None else np.vstack([patches, class_token])
    plane, shares = principal_plane(everything)
    places, marked = plane[: len(patches)], np.asarray(marked, bool)
    ax.plot(*places[~marked].T, "o", color=BLUE, markersize=2.5, alpha=0.6, markeredgewidth=0, label="patch")
    if marked.any():
        ax.plot(*places[marked].T, "^", color=VERMILION, markersize=4.5, markeredgewidth=0, label=outlier)
    if class_token is not None:
        ax.plot(*plane[-1:].T, "*", color=INK, markersize=9, markeredgecolor="white", label="class token")
    ax.axhline(0, color=QUIET, linewidth=0.5)
    ax.axvline(0, color=QUIET, linewidth=0.5)
    ax.set(
        xlabel=f"first component ({shares[0]:.0%} of the variance)",
        ylabel=f"second component ({shares[1]:.0%})",
    )
    ax.legend(loc="best")


def token_scatter(
    patches: np.ndarray,
    marked: np.ndarray,
    class_token: np.ndarray | None = None,
    *,
    title: str = "",
    outlier: str = "outlier",
) -> Figure:
    """Patches (N, D), which of them are marked (N), and the class token (D), by their principal components.

    Source: SC-CLIP (Bai et al. 2024, arXiv:2411.15869), Fig 2 b; the components are those of all that is drawn.
    `outlier` is what the legend calls those marked.
    """
    if len(patches) != len(marked):
        raise ValueError(f"`marked` should have one entry for each of {len(patches)} patches; got {len(marked)}.")
    with drawing((COLUMN, COLUMN * 0.9), title=title) as figure:
        draw_token_scatter(figure.subplots(), patches, marked, class_token, outlier=outlier)
    return figure
