"""ITACLIP: self-self attention of middle layers and the last one, averaged; more views and words where asked."""

from __future__ import annotations

from segment.encoders.middle_attention import MiddleAttention
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES
from segment.scorers.products import Products

METHOD = Method(
    encoder=MiddleAttention(),
    scorer=Products(),
    paper=Paper(title="ITACLIP", venue="CVPRW 2025", arxiv="2411.12044", code="m-arda-aydn/ITACLIP 521a33c"),
    summary="q-q + k-k of layers 7, 8, 10 and the last averaged, residual kept, no FFN; one view unless asked",
    page="itaclip",
    departures=(
        OTHER_SHAPES,
        PARTIAL_PATCHES,
        "One view by default; the release looks at five, views=gray+blur+vertical+horizontal, as the protocol does.",
        "The release's definitions of words, made by a language model, are not shipped; definitions of your own are "
        "blended in by `ao.text_features(…, definitions=…, blend=…)`.",
        "Layers 7, 8 and 10 at every depth, as released; `layers` names others.",
    ),
)
