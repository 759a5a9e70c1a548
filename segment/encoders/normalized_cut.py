"""Normalized cuts: a graph of patches split in two where the links are weak."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

# Above so many nodes the eigenvector is iterated for, which is as exact and far faster, for at most so many restarts; a
# whole decomposition takes minutes for thousands of nodes. Our choice.
LARGE = 64
RESTARTS = 300
# Eigenvalues nearer than this to 1 mean that all nodes are linked alike, and no cut is better than another. Our choice.
UNIFORM = 1e-6
# Components as large as the largest up to this share count as equally large, so that rounding does not choose between
# them. Our choice.
EQUAL = 1e-6


def links_of(features: Tensor, tau: float, *, floor: float = 1e-5) -> Tensor:
    """1 between patches whose cosine is above `tau`, `floor` between all others: (N, D) -> (N, N), fp64.

    `floor` keeps the graph in one piece; its size is TokenCut's (Wang et al., CVPR 2022).
    """
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    links = (unit @ unit.mT > tau).to("cpu" if unit.device.type == "mps" else unit.device, torch.float64)
    return links.clamp_min(floor)


def second_eigenvector(links: Tensor) -> tuple[Tensor, float]:
    """The x of the second-smallest λ with (D - W)·x = λ·D·x, and that λ in [0, 2]: W (N, N) -> (N,), fp64.

    D is the diagonal of W's row sums, all above 0; W is symmetric, N at least 2. The sign is fixed: the entry of
    largest size is positive, the first one of equals. Where λ is a multiple eigenvalue, x is one of its vectors.
    Source: Shi and Malik 2000, Normalized Cuts and Image Segmentation, Eq 7-8.
    """
    root = links.sum(dim=1).sqrt()
    # With y = √D·x the problem is an ordinary one, of the symmetric D^-½·W·D^-½, whose largest eigenvalue is 1 at
    # y = √d. That one is known and taken out: in a graph of nearly two pieces it would mix with the one sought.
    weights = links / (root[:, None] * root)
    known = root / root.norm()
    vector, value = _leading(weights, known)
    x = vector / root
    sizes = x.abs()
    first = int((sizes >= sizes.max() * (1 - EQUAL)).nonzero()[0])
    return (x if x[first] >= 0 else -x), 1 - value


def _leading(weights: Tensor, known: Tensor) -> tuple[Tensor, float]:
    """The unit eigenvector of the largest eigenvalue at right angles to `known`, and that value."""
    count = len(known)
    if count > LARGE:

        def product(vector: np.ndarray) -> np.ndarray:
            vectors = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1)).to(weights)
            return (weights @ vectors - known * (known @ vectors)).cpu().numpy()

        start = np.random.default_rng(0).standard_normal(count)
        try:
            values, vectors = eigsh(
                LinearOperator((count, count), matvec=product, dtype=np.float64),
                k=1,
                which="LA",
                v0=start,
                maxiter=RESTARTS,
            )
            return torch.from_numpy(vectors[:, 0].copy()).to(weights), float(values[0])
        except ArpackError:
            pass  # many nearly equal eigenvalues, or none but 0: the whole decomposition settles it
    matrix = (weights - known[:, None] * known).cpu().numpy()
    values, vectors = eigh(matrix, subset_by_index=[count - 1, count - 1])
    return torch.from_numpy(vectors[:, 0].copy()).to(weights), float(values[0])


def cut_off(links: Tensor) -> Tensor | None:
    """The part that a normalized cut takes off a graph: W (N, N) -> (N,) bool, neither empty nor all; None for no cut.

    The nodes where the second eigenvector is above its mean, its sign as in `second_eigenvector`: the part stands out,
    being the one with the largest entry. None for fewer than 2 nodes, and where all nodes are linked alike.
    Source: TokenCut (Wang et al., CVPR 2022): the mean as the threshold, the side of the largest entry as the object.
    """
    if len(links) < 2:
        return None
    vector, value = second_eigenvector(links)
    part = vector > vector.mean()
    return None if value > 1 - UNIFORM or part.all() or not part.any() else part
