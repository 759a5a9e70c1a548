"""The registry of measures, by name; a new one is a file and a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from diagnostics.measures.attention import (
    AttentionDistance,
    AttentionEntropy,
    AttentionMaps,
    ClassAttention,
    PrefixAttention,
    QueryAttention,
    RankOneShare,
    ReceivedAttention,
    SelfAttention,
)
from diagnostics.measures.auc import SameClassAuc
from diagnostics.measures.base import UNLABELED, AcrossLayers, LayerView, Measure, Variable
from diagnostics.measures.channels import ChannelKurtosis, ChannelMean, ChannelPeak, MassiveCount, TopChannels
from diagnostics.measures.entropy import Entropy
from diagnostics.measures.layer_similarity import LayerSimilarity
from diagnostics.measures.norms import ClassNorm, Frobenius, Norms, Peak, PrefixNorm
from diagnostics.measures.pca import PrincipalComponents
from diagnostics.measures.similarity import PatchSimilarity
from diagnostics.registry import Registry

__all__ = ["DEFAULT_MEASURES", "MEASURES", "UNLABELED", "AcrossLayers", "LayerView", "Measure", "Variable"]

MEASURES: Registry[Any] = Registry(
    "measure",
    {
        "norms": Norms,
        "class-norm": ClassNorm,
        "prefix-norm": PrefixNorm,
        "frobenius": Frobenius,
        "peak": Peak,
        "entropy": Entropy,
        "channel-peak": ChannelPeak,
        "channel-mean": ChannelMean,
        "top-channels": TopChannels,
        "massive": MassiveCount,
        "channel-kurtosis": ChannelKurtosis,
        "class-attention": ClassAttention,
        "self-attention": SelfAttention,
        "received-attention": ReceivedAttention,
        "prefix-attention": PrefixAttention,
        "attention-entropy": AttentionEntropy,
        "rank-one-share": RankOneShare,
        "attention-distance": AttentionDistance,
        "auc": SameClassAuc,
        "layer-similarity": LayerSimilarity,
        "pca": PrincipalComponents,
        "query-attention": QueryAttention,
        "patch-similarity": PatchSimilarity,
        "attention-maps": AttentionMaps,
    },
)

# Maps of whole queries are for a few images of a figure; ask for them by name.
ONLY_BY_NAME = ("query-attention", "patch-similarity", "attention-maps")
DEFAULT_MEASURES: tuple[str, ...] = tuple(name for name in MEASURES if name not in ONLY_BY_NAME)


def measures_of(specs: Iterable[Any]) -> list[Any]:
    """Measures from specs such as `norms` or `query-attention:patches=90+105`; ready-made parts pass as they are."""
    return [MEASURES.build(spec) if isinstance(spec, str) else spec for spec in specs]
