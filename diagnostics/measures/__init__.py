"""The registry of measures, by name; a new one is a file and a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from diagnostics.measures.base import UNLABELED, AcrossLayers, LayerView, Measure, Variable

__all__ = ["DEFAULT_MEASURES", "MEASURES", "UNLABELED", "AcrossLayers", "LayerView", "Measure", "Variable"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diagnostics.measures.base": (
            "UNLABELED",
            "AcrossLayers",
            "LayerView",
            "Measure",
            "Variable",
        ),
    },
)

MEASURES: Registry[Any] = Registry(
    "measure",
    {
        "norms": "diagnostics.measures.norms:Norms",
        "class-norm": "diagnostics.measures.norms:ClassNorm",
        "prefix-norm": "diagnostics.measures.norms:PrefixNorm",
        "frobenius": "diagnostics.measures.norms:Frobenius",
        "peak": "diagnostics.measures.norms:Peak",
        "entropy": "diagnostics.measures.entropy:Entropy",
        "channel-peak": "diagnostics.measures.channels:ChannelPeak",
        "channel-mean": "diagnostics.measures.channels:ChannelMean",
        "top-channels": "diagnostics.measures.channels:TopChannels",
        "massive": "diagnostics.measures.channels:MassiveCount",
        "channel-kurtosis": "diagnostics.measures.channels:ChannelKurtosis",
        "class-attention": "diagnostics.measures.attention:ClassAttention",
        "self-attention": "diagnostics.measures.attention:SelfAttention",
        "received-attention": "diagnostics.measures.attention:ReceivedAttention",
        "prefix-attention": "diagnostics.measures.attention:PrefixAttention",
        "attention-entropy": "diagnostics.measures.attention:AttentionEntropy",
        "rank-one-share": "diagnostics.measures.attention:RankOneShare",
        "attention-distance": "diagnostics.measures.attention:AttentionDistance",
        "value-norm": "diagnostics.measures.values:ValueNorm",
        "value-attention": "diagnostics.measures.values:ValueAttention",
        "class-contribution": "diagnostics.measures.values:ClassContribution",
        "output-rank-one": "diagnostics.measures.values:OutputRankOne",
        "auc": "diagnostics.measures.auc:SameClassAuc",
        "layer-similarity": "diagnostics.measures.layer_similarity:LayerSimilarity",
        "pca": "diagnostics.measures.pca:PrincipalComponents",
        "query-attention": "diagnostics.measures.attention:QueryAttention",
        "patch-similarity": "diagnostics.measures.similarity:PatchSimilarity",
        "attention-maps": "diagnostics.measures.attention:AttentionMaps",
    },
    group="measures",
)

# Maps of whole queries are for a few images of a figure, and values for models with outliers; ask for them by name.
ONLY_BY_NAME = (
    *("query-attention", "patch-similarity", "attention-maps"),
    *("value-norm", "value-attention", "class-contribution", "output-rank-one"),
)
DEFAULT_MEASURES: tuple[str, ...] = tuple(name for name in MEASURES.listed if name not in ONLY_BY_NAME)


def measures_of(specs: Iterable[Any]) -> list[Any]:
    """Measures from specs such as `norms` or `query-attention:patches=90+105`; ready-made parts pass as they are."""
    return [MEASURES.build(spec) for spec in specs]
