"""Patches that a map is asked for, by number: checked against the grid, the center one by default."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diagnostics.layout import Layout


def chosen_patches(patches: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The row-major numbers asked for, or that of the center patch."""
    return patches or ((layout.grid.rows // 2) * layout.grid.cols + layout.grid.cols // 2,)


def query_coordinate(patches: tuple[int, ...], layout: Layout) -> Mapping[str, np.ndarray]:
    """The coordinate `query`: numbers of the patches."""
    return {"query": np.array(chosen_patches(patches, layout))}


def outside_the_grid(patches: tuple[int, ...], layout: Layout) -> str | None:
    """What to say of patches that the grid does not have, or None."""
    outside = [patch for patch in patches if not 0 <= patch < layout.count]
    if not outside:
        return None
    grid = layout.grid
    return f"patches should be 0…{layout.count - 1} of the {grid.rows}x{grid.cols} grid; got {outside}"
