"""Purify first: outliers taken out of the stream at every layer, then read by the encoder that reads best."""

from __future__ import annotations

from segment.encoders.purify_first import PurifyFirst
from segment.method import Method, Paper

METHOD = Method(
    encoder=PurifyFirst(),
    paper=Paper(title="Purify first", venue="ours 2026"),
    page="purify-first",
    summary="ours: outliers purified at every layer and onwards, then another method's encoder",
)
