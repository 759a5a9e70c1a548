"""Measurements and arrays in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from diagnostics.registry import Registry
from figures.curves.layer_curves import layer_curve, layer_overview
from figures.curves.planted_roc import planted_roc
from figures.curves.probe_report import probe_figures
from figures.curves.roc import roc_curves
from figures.curves.threshold_sweep import threshold_sweep
from figures.figure_files import write
from figures.look import style
from figures.maps.attention_heads import attention_heads
from figures.maps.channels import channel_heatmap, channel_means
from figures.maps.layer_maps import maps_over_layers, pca_maps
from figures.maps.layer_similarity import layer_similarity
from figures.maps.score_maps import score_maps
from figures.tables.agreement import agreement
from figures.tables.compare_report import compare_figures
from figures.tables.purification_bars import purification_bars

# A figure's first argument is named after what it takes: `dataset`, all that was probed, or `measurement`, one of its
# variables, or `scores`, of detectors. All else has a default. Figures of tables are below, in `__all__`.
FIGURES: Registry[Callable[..., Figure]] = Registry(
    "figure",
    {
        "attention-heads": attention_heads,
        "channel-heatmap": channel_heatmap,
        "channel-means": channel_means,
        "layer-curve": layer_curve,
        "layer-overview": layer_overview,
        "layer-similarity": layer_similarity,
        "maps-over-layers": maps_over_layers,
        "pca-maps": pca_maps,
        "planted-roc": planted_roc,
        "roc-curves": roc_curves,
        "score-maps": score_maps,
    },
)

__all__ = [
    "FIGURES",
    "agreement",
    "compare_figures",
    "probe_figures",
    "purification_bars",
    "style",
    "threshold_sweep",
    "write",
    *(function.__name__ for function in FIGURES.values()),
]
