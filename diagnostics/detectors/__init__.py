"""The registry of detectors, by name; a new one is a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from diagnostics.detectors.base import Detector, Outliers, ThresholdDetector

__all__ = ["DETECTORS", "Detector", "Outliers", "ThresholdDetector"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diagnostics.detectors.base": (
            "Detector",
            "Outliers",
            "ThresholdDetector",
        ),
    },
)

DETECTORS: Registry[Any] = Registry(
    "detector",
    {
        "norm": "diagnostics.detectors.norm:AbsoluteNorm",
        "relative-norm": "diagnostics.detectors.relative_norm:RelativeNorm",
        "norm-topk": "diagnostics.detectors.norm_topk:NormTopK",
        "massive": "diagnostics.detectors.massive:Massive",
        "channel-peak": "diagnostics.detectors.channel_peak:ChannelPeak",
        "som": "diagnostics.detectors.som:Som",
        "som-release": "diagnostics.detectors.som_release:SomRelease",
        "lof": "diagnostics.detectors.lof:LocalOutlierFactor",
        "lof-release": "diagnostics.detectors.lof_release:LofRelease",
        "self-correlation": "diagnostics.detectors.self_correlation:SelfCorrelation",
        "class-residual": "diagnostics.detectors.class_residual:ClassResidual",
        "received-attention": "diagnostics.detectors.received_attention:ReceivedAttention",
        "stripe": "diagnostics.detectors.stripe:Stripe",
        "attention-rank1": "diagnostics.detectors.attention_rank1:AttentionRank1",
        "register-neuron": "diagnostics.detectors.register_neuron:RegisterNeuron",
        "singular-defect": "diagnostics.detectors.singular_defect:SingularDefect",
        "mahalanobis": "diagnostics.detectors.mahalanobis:Mahalanobis",
        "knn": "diagnostics.detectors.knn:KNearest",
        "isolation-forest": "diagnostics.detectors.isolation_forest:IsolationForest",
        "pyod": "diagnostics.detectors.pyod:Pyod",
        "random": "diagnostics.detectors.random:RandomScores",
        "adaptive": "diagnostics.detectors.adaptive:Adaptive",
        "profile": "diagnostics.detectors.lined:Profiled",
        "auto": "diagnostics.detectors.lined:Automatic",
    },
    group="detectors",
    part="diagnostics.detectors.base:Detector",
)
