"""Measurements and arrays in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        "attention-heads": "figures.maps.attention_heads:attention_heads",
        "channel-heatmap": "figures.maps.channels:channel_heatmap",
        "channel-means": "figures.maps.channels:channel_means",
        "layer-curve": "figures.curves.layer_curves:layer_curve",
        "layer-overview": "figures.curves.layer_curves:layer_overview",
        "layer-similarity": "figures.maps.layer_similarity:layer_similarity",
        "maps-over-layers": "figures.maps.layer_maps:maps_over_layers",
        "pca-maps": "figures.maps.layer_maps:pca_maps",
        "planted-roc": "figures.curves.planted_roc:planted_roc",
        "roc-curves": "figures.curves.roc:roc_curves",
        "score-maps": "figures.maps.score_maps:score_maps",
    },
    group="figures",
)

__all__ = [
    "FIGURES",
    "agreement",
    "attention_heads",
    "channel_heatmap",
    "channel_means",
    "compare_figures",
    "layer_curve",
    "layer_overview",
    "layer_similarity",
    "maps_over_layers",
    "pca_maps",
    "planted_roc",
    "probe_figures",
    "purification_bars",
    "roc_curves",
    "score_maps",
    "style",
    "threshold_sweep",
    "write",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "figures.curves.layer_curves": ("layer_curve", "layer_overview"),
        "figures.curves.planted_roc": ("planted_roc",),
        "figures.curves.probe_report": ("probe_figures",),
        "figures.curves.roc": ("roc_curves",),
        "figures.curves.threshold_sweep": ("threshold_sweep",),
        "figures.figure_files": ("write",),
        "figures.look": ("style",),
        "figures.maps.attention_heads": ("attention_heads",),
        "figures.maps.channels": ("channel_heatmap", "channel_means"),
        "figures.maps.layer_maps": ("maps_over_layers", "pca_maps"),
        "figures.maps.layer_similarity": ("layer_similarity",),
        "figures.maps.score_maps": ("score_maps",),
        "figures.tables.agreement": ("agreement",),
        "figures.tables.compare_report": ("compare_figures",),
        "figures.tables.purification_bars": ("purification_bars",),
    },
)
