"""Look inside vision transformers: backbones, taps, measures, and whole runs over folders of images.

import diagnostics

backbone = diagnostics.load_backbone("pocket")
dataset = diagnostics.probe(backbone, "images/")
dataset["norm"].max(("row", "col"))
"""

from diagnostics.backbones import BACKBONES, load_backbone
from diagnostics.backbones.base import QKV, Backbone, Block
from diagnostics.backbones.positions import POSITIONS
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
