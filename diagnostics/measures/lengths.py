"""Lengths and directions of vectors whose squares leave the range of fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Lengths at which the squares that make them are all in range, or too small to matter. Our choice, a wide margin.
SHORTEST, LONGEST = 1e-15, 1e15


def vector_norm(vectors: Tensor) -> Tensor:
    """L2 norm along the last dim: (…, D) -> (…), at least 0.

    As `torch.linalg.vector_norm`, and right also where a square overflows or vanishes: vectors too long or too short
    are brought to a largest entry of 1 first. A finite vector has a finite norm, at most the largest number of its
    dtype; one with NaN has NaN, one with infinity has infinity.
    """
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    odd = ~((norms > SHORTEST) & (norms < LONGEST))
    if not bool(odd.any()):
        return norms
    extreme = vectors[odd]
    size = extreme.abs().amax(dim=-1)
    scaled = torch.linalg.vector_norm(extreme / _divisor(size)[..., None], dim=-1)
    limited = (scaled * size).clamp_max(torch.finfo(norms.dtype).max).where(size.isfinite(), size)
    return norms.index_put((odd,), limited)


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors brought to length 1 along the last dim: (…, D) -> (…, D). A zero vector stays zero.

    As `torch.nn.functional.normalize`, and right also where a square overflows or vanishes. NaN for a vector with NaN
    or infinity.
    """
    unit = F.normalize(vectors, dim=-1)
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    odd = ~((norms > 1e-11) & (norms < LONGEST))  # normalize leaves those below 1e-12 short
    if not bool(odd.any()):
        return unit
    extreme = vectors[odd]
    return unit.index_put((odd,), F.normalize(extreme / _divisor(extreme.abs().amax(dim=-1))[..., None], dim=-1))


def _divisor(size: Tensor) -> Tensor:
    """What to divide by to bring a largest entry to 1: 1 for 0."""
    return size.where(size != 0, 1.0)
