"""The named places inside a block, in the order in which a block passes them. Loads no torch."""

from __future__ import annotations

from typing import NamedTuple


class TapPlace(NamedTuple):
    """A named place in the block: the shape that flows there, and what it is."""

    shape: str
    meaning: str


TAPS: dict[str, TapPlace] = {
    "block_in": TapPlace("(B, T, D)", "block input: the residual stream before the block; X_res of ClearCLIP"),
    "normed": TapPlace(
        "(B, T, D)",
        "what q, k, v are made from: after the first LayerNorm; the block input itself where norms follow the branches",
    ),
    "query_unrotated": TapPlace("(B, H, T, d)", "queries before a rotary rotation; the queries where there is none"),
    "key_unrotated": TapPlace("(B, H, T, d)", "keys before a rotary rotation; the keys where there is none"),
    "attention_bias": TapPlace(
        "(1, H, T, T)", "relative position bias on the logits; only models that have one pass this place"
    ),
    "query": TapPlace("(B, H, T, d)", "queries, rotated and scaled so that attention = softmax(q·kᵀ/√d + bias)"),
    "key": TapPlace("(B, H, T, d)", "keys, rotated where the model has rotary positions"),
    "value": TapPlace("(B, H, T, d)", "values"),
    "attention": TapPlace(
        "(B, H, T, T)",
        "attention after softmax, rows are queries; made only when a tap wants it; a difference where it is applied so",
    ),
    "head_out": TapPlace("(B, H, T, d)", "what heads hand out, attention times values, before they are merged"),
    "attn_out": TapPlace("(B, T, D)", "attention's output after the out-projection; X_attn of ClearCLIP"),
    "block_sum": TapPlace("(B, T, D)", "block_in + attn_out; X_sum of ClearCLIP"),
    "ffn_hidden": TapPlace(
        "(B, T, F)", "hidden units of the feed-forward network: after the activation, after gating, after an inner norm"
    ),
    "ffn_out": TapPlace("(B, T, D)", "feed-forward network's output"),
    "block_out": TapPlace("(B, T, D)", "block_sum + ffn_out: block output, the residual stream after the block"),
}

# Places that blocks of differential attention do not pass: it has two pairs of queries and keys to a head.
BY_QUERY_AND_KEY = frozenset({"query_unrotated", "key_unrotated", "query", "key"})
# Places that only some models pass.
SOMETIMES = frozenset({"attention_bias"}) | BY_QUERY_AND_KEY
# What attention = softmax(q·kᵀ/√d + bias) is made of, where it is made again outside the block.
ATTENTION_PARTS = ("query", "key", "attention_bias")
