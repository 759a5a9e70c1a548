"""A short name for the exact weights of a model, so that runs with other weights are kept apart."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(model: nn.Module, *, leave_out: tuple[str, ...] = ()) -> str:
    """SHA-256 over names, shapes, types and values of all weights; the first 16 hexadecimal digits.

    Weights whose names start with an entry of `leave_out` don't count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(leave_out):
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        # The array itself, not its bytes: large models would be copied once more.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
