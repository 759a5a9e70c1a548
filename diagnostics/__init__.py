"""Look inside vision transformers: backbones, taps, measures, and whole runs over folders of images.

import diagnostics

backbone = diagnostics.load_backbone("pocket")
dataset = diagnostics.probe(backbone, "images/")
dataset["norm"].max(("row", "col"))
"""

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names

if TYPE_CHECKING:
    from diagnostics.backbones import BACKBONES, POSITIONS, load_backbone
    from diagnostics.backbones.base import QKV, Backbone, Block
    from diagnostics.images import load_image
    from diagnostics.images.feed import image_paths
    from diagnostics.layout import Grid, Layout
    from diagnostics.measures import DEFAULT_MEASURES, MEASURES
    from diagnostics.studies.dense_tokens import dense_tokens, encode
    from diagnostics.studies.probe import measure_images, probe
    from diagnostics.studies.store import open_run
    from diagnostics.studies.summary import layer_table
    from diagnostics.taps import TAPS, Recorder, Recording, Tap, chain

__all__ = [
    "BACKBONES",
    "DEFAULT_MEASURES",
    "MEASURES",
    "POSITIONS",
    "QKV",
    "TAPS",
    "Backbone",
    "Block",
    "Grid",
    "Layout",
    "Recorder",
    "Recording",
    "Tap",
    "chain",
    "dense_tokens",
    "encode",
    "image_paths",
    "layer_table",
    "load_backbone",
    "load_image",
    "measure_images",
    "open_run",
    "probe",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diagnostics.backbones": ("BACKBONES", "POSITIONS", "load_backbone"),
        "diagnostics.backbones.base": ("QKV", "Backbone", "Block"),
        "diagnostics.images": ("load_image",),
        "diagnostics.images.feed": ("image_paths",),
        "diagnostics.layout": ("Grid", "Layout"),
        "diagnostics.measures": ("DEFAULT_MEASURES", "MEASURES"),
        "diagnostics.studies.dense_tokens": ("dense_tokens", "encode"),
        "diagnostics.studies.probe": ("measure_images", "probe"),
        "diagnostics.studies.store": ("open_run",),
        "diagnostics.studies.summary": ("layer_table",),
        "diagnostics.taps": ("TAPS", "Recorder", "Recording", "Tap", "chain"),
    },
)
