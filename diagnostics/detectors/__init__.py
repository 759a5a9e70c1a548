"""The registry of detectors, by name; a new one is a file and a line."""

from __future__ import annotations

from typing import Any

from diagnostics.detectors.adaptive import Adaptive
from diagnostics.detectors.attention_rank1 import AttentionRank1
from diagnostics.detectors.base import Detector, Outliers, ThresholdDetector
from diagnostics.detectors.channel_peak import ChannelPeak
from diagnostics.detectors.class_residual import ClassResidual
from diagnostics.detectors.isolation_forest import IsolationForest
from diagnostics.detectors.knn import KNearest
from diagnostics.detectors.lof import LocalOutlierFactor
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.detectors.mahalanobis import Mahalanobis
from diagnostics.detectors.massive import Massive
from diagnostics.detectors.norm import AbsoluteNorm
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.detectors.pyod import Pyod
from diagnostics.detectors.random import RandomScores
from diagnostics.detectors.received_attention import ReceivedAttention
from diagnostics.detectors.register_neuron import RegisterNeuron
from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.detectors.self_correlation import SelfCorrelation
from diagnostics.detectors.singular_defect import SingularDefect
from diagnostics.detectors.som import Som
from diagnostics.detectors.som_release import SomRelease
from diagnostics.detectors.stripe import Stripe
from diagnostics.registry import Registry

__all__ = ["DETECTORS", "Detector", "Outliers", "ThresholdDetector"]

DETECTORS: Registry[Any] = Registry(
    "detector",
    {
        "norm": AbsoluteNorm,
        "relative-norm": RelativeNorm,
        "norm-topk": NormTopK,
        "massive": Massive,
        "channel-peak": ChannelPeak,
        "som": Som,
        "som-release": SomRelease,
        "lof": LocalOutlierFactor,
        "lof-release": LofRelease,
        "self-correlation": SelfCorrelation,
        "class-residual": ClassResidual,
        "received-attention": ReceivedAttention,
        "stripe": Stripe,
        "attention-rank1": AttentionRank1,
        "register-neuron": RegisterNeuron,
        "singular-defect": SingularDefect,
        "mahalanobis": Mahalanobis,
        "knn": KNearest,
        "isolation-forest": IsolationForest,
        "pyod": Pyod,
        "random": RandomScores,
        "adaptive": Adaptive,
    },
    part=Detector,
)
