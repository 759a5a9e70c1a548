"""Which tokens a measure takes in, and the three streams that meet inside a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diagnostics.measures.base import LayerView

Tokens = Literal["all", "patches"]

# X_res, X_attn and X_sum of ClearCLIP (arXiv:2407.12442), in the order of the coordinate `stream`.
STREAMS = ("block_in", "attn_out", "block_sum")


def chosen_tokens(view: LayerView, tap: str, tokens: Tokens) -> Tensor:
    """All tokens of a tap, or its patches, in fp32: (B, T, D) or (B, N, D)."""
    if tokens == "all":
        return view[tap].float()
    if tokens == "patches":
        return view.patches(tap)
    raise ValueError(f"`tokens` should be `all` (prefix tokens included) or `patches`; got `{tokens}`.")


def per_stream(view: LayerView, tokens: Tokens, statistic: Callable[[Tensor], Tensor]) -> Tensor:
    """A statistic (B, T, D) -> (B) of each of the three streams: (B, 3)."""
    values = []
    for stream in STREAMS:
        chosen = chosen_tokens(view, stream, tokens)
        # One image at a time stays in a CPU's cache, which is three times as fast; a GPU wants them all at once.
        pieces = [chosen] if chosen.is_cuda else chosen.split(1)
        values.append(torch.cat([statistic(piece) for piece in pieces]))
    return torch.stack(values, dim=1)


def stream_coordinates() -> Mapping[str, np.ndarray]:
    """The coordinate `stream`: the names of the taps."""
    return {"stream": np.array(STREAMS)}
