"""The named places inside a block, in the order in which a block passes them. Loads no torch."""

from __future__ import annotations

from typing import NamedTuple


class TapPlace(NamedTuple):
    """A named place in the block: the shape that flows there, and what it is."""

    shape: str
    meaning: str


TAPS: dict[str, TapPlace] = {
    "block_in": TapPlace("(B, T, D)", "block input: the residual stream before the block; X_res of ClearCLIP"),
    "normed": TapPlace("(B, T, D)", "after the first LayerNorm; what q, k, v are made from"),
    "query": TapPlace("(B, H, T, d)", "queries, scaled so that attention = softmax(q·kᵀ/√d)"),
    "key": TapPlace("(B, H, T, d)", "keys"),
    "value": TapPlace("(B, H, T, d)", "values"),
    "attention": TapPlace("(B, H, T, T)", "attention after softmax, rows are queries; made only when a tap wants it"),
    "attn_out": TapPlace("(B, T, D)", "attention's output after the out-projection; X_attn of ClearCLIP"),
    "block_sum": TapPlace("(B, T, D)", "block_in + attn_out; X_sum of ClearCLIP"),
    "ffn_hidden": TapPlace("(B, T, F)", "hidden units of the feed-forward network, after the activation"),
    "ffn_out": TapPlace("(B, T, D)", "feed-forward network's output"),
    "block_out": TapPlace("(B, T, D)", "block_sum + ffn_out: block output, the residual stream after the block"),
}
