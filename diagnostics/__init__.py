"""Look inside vision transformers: backbones, taps, measures, and whole runs over folders of pictures.

import diagnostics

backbone = diagnostics.load_backbone("pocket")
dataset = diagnostics.probe(backbone, "pictures/")
dataset["norm"].max(("row", "col"))
"""

from diagnostics.backbones import BACKBONES, load_backbone
from diagnostics.backbones.base import Backbone, Block, Heads
from diagnostics.backbones.positions import POSITIONS
from diagnostics.images import load_image
from diagnostics.images.feed import picture_paths
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
    "TAPS",
    "Backbone",
    "Block",
    "Grid",
    "Heads",
    "Layout",
    "Recorder",
    "Recording",
    "Tap",
    "chain",
    "dense_tokens",
    "encode",
    "layer_table",
    "load_backbone",
    "load_image",
    "measure_images",
    "open_run",
    "picture_paths",
    "probe",
]
