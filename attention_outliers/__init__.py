"""Find the attention outliers of a vision transformer, measure and purify them, and segment with what is left.

import attention_outliers as ao

backbone = ao.load_backbone("pocket:planted")
dataset = ao.probe(backbone, "images/")
ao.layer_table(dataset)

Every public name is here. Each is imported when it is first used, so that `import attention_outliers` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attention_outliers.api import figure as figure
    from attention_outliers.api import reproduce as reproduce
    from attention_outliers.api import view as view
    from attention_outliers.papers.experiment_list import experiments as experiments
    from attention_outliers.papers.figures import PAPER_FIGURES as PAPER_FIGURES
    from attention_outliers.papers.inputs import PaperFigure as PaperFigure
    from attention_outliers.papers.report import paper_report as paper_report
    from diagnostics.backbones import BACKBONES as BACKBONES
    from diagnostics.backbones import load_backbone as load_backbone
    from diagnostics.backbones.base import QKV as QKV
    from diagnostics.backbones.base import Backbone as Backbone
    from diagnostics.backbones.base import Block as Block
    from diagnostics.backbones.openclip import clip_backbone as clip_backbone
    from diagnostics.backbones.pocket import planted_unit as planted_unit
    from diagnostics.backbones.pocket.planted import planted_patches as planted_patches
    from diagnostics.backbones.positions import POSITIONS as POSITIONS
    from diagnostics.backbones.timm import timm_backbone as timm_backbone
    from diagnostics.detectors import DETECTORS as DETECTORS
    from diagnostics.detectors.base import Detector as Detector
    from diagnostics.detectors.base import Outliers as Outliers
    from diagnostics.detectors.base import ThresholdDetector as ThresholdDetector
    from diagnostics.edits import EDITS as EDITS
    from diagnostics.edits.base import Edit as Edit
    from diagnostics.edits.plant import Plant as Plant
    from diagnostics.edits.purify_at import PurifyAt as PurifyAt
    from diagnostics.gap_line import GapLine as GapLine
    from diagnostics.gap_line import Line as Line
    from diagnostics.images import load_image as load_image
    from diagnostics.images import open_image as open_image
    from diagnostics.images.feed import image_paths as image_paths
    from diagnostics.layout import Grid as Grid
    from diagnostics.layout import Layout as Layout
    from diagnostics.measures import DEFAULT_MEASURES as DEFAULT_MEASURES
    from diagnostics.measures import MEASURES as MEASURES
    from diagnostics.measures.base import LayerView as LayerView
    from diagnostics.measures.base import Measure as Measure
    from diagnostics.measures.base import Variable as Variable
    from diagnostics.options import RunOptions as RunOptions
    from diagnostics.purifiers import PURIFIERS as PURIFIERS
    from diagnostics.purifiers.base import Purifier as Purifier
    from diagnostics.purifiers.checks import check_inputs as check_inputs
    from diagnostics.registry import Registry as Registry
    from diagnostics.studies.agreement import agreement_table as agreement_table
    from diagnostics.studies.attention_maps import attention as attention
    from diagnostics.studies.comparison import compare as compare
    from diagnostics.studies.dense_tokens import dense_tokens as dense_tokens
    from diagnostics.studies.dense_tokens import encode as encode
    from diagnostics.studies.feature_maps import features as features
    from diagnostics.studies.findings import findings as findings
    from diagnostics.studies.location import location_table as location_table
    from diagnostics.studies.location import patch_places as patch_places
    from diagnostics.studies.outlier_search import find_outliers as find_outliers
    from diagnostics.studies.planting import planted_scores as planted_scores
    from diagnostics.studies.planting import planted_truth as planted_truth
    from diagnostics.studies.probe import measure_images as measure_images
    from diagnostics.studies.probe import probe as probe
    from diagnostics.studies.profile import Profile as Profile
    from diagnostics.studies.profile import profile as profile
    from diagnostics.studies.profile import profile_run as profile_run
    from diagnostics.studies.purification import purification_table as purification_table
    from diagnostics.studies.purified_features import Purified as Purified
    from diagnostics.studies.purified_features import purify as purify
    from diagnostics.studies.purified_features import purify_tokens as purify_tokens
    from diagnostics.studies.rollout import rollout as rollout
    from diagnostics.studies.scoring import fit_detectors as fit_detectors
    from diagnostics.studies.scoring import score_images as score_images
    from diagnostics.studies.stability import stability_table as stability_table
    from diagnostics.studies.store import open_run as open_run
    from diagnostics.studies.summary import first_outlier_layer as first_outlier_layer
    from diagnostics.studies.summary import layer_table as layer_table
    from diagnostics.studies.thresholds import threshold_table as threshold_table
    from diagnostics.studies.truth import truth_table as truth_table
    from diagnostics.taps import TAPS as TAPS
    from diagnostics.taps import Recorder as Recorder
    from diagnostics.taps import Recording as Recording
    from diagnostics.taps import Tap as Tap
    from diagnostics.taps import chain as chain
    from figures import FIGURES as FIGURES
    from figures.curves.layer_curves import layer_curve as layer_curve
    from figures.curves.layer_curves import layer_overview as layer_overview
    from figures.curves.planted_roc import planted_roc as planted_roc
    from figures.curves.probe_report import probe_figures as probe_figures
    from figures.curves.profile_curves import profile_layer_curves as profile_layer_curves
    from figures.curves.profile_curves import score_histograms as score_histograms
    from figures.curves.roc import roc_curves as roc_curves
    from figures.curves.setting_curves import setting_curves as setting_curves
    from figures.curves.threshold_sweep import threshold_sweep as threshold_sweep
    from figures.figure_files import write as write_figure  # noqa: F401
    from figures.look import style as style
    from figures.maps.attention_heads import attention_heads as attention_heads
    from figures.maps.channels import channel_heatmap as channel_heatmap
    from figures.maps.channels import channel_means as channel_means
    from figures.maps.label_maps import method_sheet as method_sheet
    from figures.maps.layer_maps import maps_over_layers as maps_over_layers
    from figures.maps.layer_maps import pca_maps as pca_maps
    from figures.maps.layer_similarity import layer_similarity as layer_similarity
    from figures.maps.profile_maps import profile_maps as profile_maps
    from figures.maps.score_maps import score_maps as score_maps
    from figures.tables.agreement import agreement as agreement
    from figures.tables.compare_report import compare_figures as compare_figures
    from figures.tables.purification_bars import purification_bars as purification_bars
    from segment.classify import accuracy_table as accuracy_table
    from segment.classify import classify as classify
    from segment.datasets import DATASETS as DATASETS
    from segment.datasets import open_dataset as open_dataset
    from segment.datasets.base import Dataset as Dataset
    from segment.datasets.base import Sample as Sample
    from segment.datasets.facts import DatasetFacts as DatasetFacts
    from segment.datasets.shapes import Shapes as Shapes
    from segment.decoding.windows import Whole as Whole
    from segment.encoders.encode_many import encode_many as encode_many
    from segment.encoders.last_block import LastBlock as LastBlock
    from segment.evaluation.engines.local import Local as Local
    from segment.evaluation.engines.ray import RayCluster as RayCluster
    from segment.evaluation.evaluate import evaluate as evaluate
    from segment.evaluation.metrics.by_method import miou_by_method as miou_by_method
    from segment.evaluation.protocols import PROTOCOLS as PROTOCOLS
    from segment.evaluation.protocols.base import Protocol as Protocol
    from segment.evaluation.protocols.base import Protocols as Protocols
    from segment.evaluation.score_methods import score_methods as score_methods
    from segment.evaluation.threshold_cost import threshold_cost as threshold_cost
    from segment.method import Decode as Decode
    from segment.method import Encoder as Encoder
    from segment.method import Encoding as Encoding
    from segment.method import Method as Method
    from segment.method import Paper as Paper
    from segment.method import TextFeatures as TextFeatures
    from segment.method import encoding as encoding
    from segment.methods import METHODS as METHODS
    from segment.one_image import segment_one as segment_one
    from segment.run import SegmentRun as SegmentRun
    from segment.segmenter import Segmentation as Segmentation
    from segment.segmenter import Segmenter as Segmenter
    from segment.text.features import text_features as text_features
    from segment.text.vocabulary import Vocabulary as Vocabulary
    from segment.word_lens import word_lens as word_lens

# Module -> the names that are taken from it; `name=attribute` where it has another name there.
NAMES_OF = {
    "attention_outliers.api": (
        "figure",
        "reproduce",
        "view",
    ),
    "attention_outliers.papers.experiment_list": ("experiments",),
    "attention_outliers.papers.figures": ("PAPER_FIGURES",),
    "attention_outliers.papers.inputs": ("PaperFigure",),
    "attention_outliers.papers.report": ("paper_report",),
    "diagnostics.backbones": (
        "BACKBONES",
        "load_backbone",
    ),
    "diagnostics.backbones.base": (
        "QKV",
        "Backbone",
        "Block",
    ),
    "diagnostics.backbones.openclip": ("clip_backbone",),
    "diagnostics.backbones.pocket": ("planted_unit",),
    "diagnostics.backbones.pocket.planted": ("planted_patches",),
    "diagnostics.backbones.positions": ("POSITIONS",),
    "diagnostics.backbones.timm": ("timm_backbone",),
    "diagnostics.detectors": ("DETECTORS",),
    "diagnostics.detectors.base": (
        "Detector",
        "Outliers",
        "ThresholdDetector",
    ),
    "diagnostics.edits": ("EDITS",),
    "diagnostics.edits.base": ("Edit",),
    "diagnostics.edits.plant": ("Plant",),
    "diagnostics.edits.purify_at": ("PurifyAt",),
    "diagnostics.gap_line": (
        "GapLine",
        "Line",
    ),
    "diagnostics.images": (
        "load_image",
        "open_image",
    ),
    "diagnostics.images.feed": ("image_paths",),
    "diagnostics.layout": (
        "Grid",
        "Layout",
    ),
    "diagnostics.measures": (
        "DEFAULT_MEASURES",
        "MEASURES",
    ),
    "diagnostics.measures.base": (
        "LayerView",
        "Measure",
        "Variable",
    ),
    "diagnostics.options": ("RunOptions",),
    "diagnostics.purifiers": ("PURIFIERS",),
    "diagnostics.purifiers.base": ("Purifier",),
    "diagnostics.purifiers.checks": ("check_inputs",),
    "diagnostics.registry": ("Registry",),
    "diagnostics.studies.agreement": ("agreement_table",),
    "diagnostics.studies.attention_maps": ("attention",),
    "diagnostics.studies.comparison": ("compare",),
    "diagnostics.studies.dense_tokens": (
        "dense_tokens",
        "encode",
    ),
    "diagnostics.studies.feature_maps": ("features",),
    "diagnostics.studies.findings": ("findings",),
    "diagnostics.studies.location": (
        "location_table",
        "patch_places",
    ),
    "diagnostics.studies.outlier_search": ("find_outliers",),
    "diagnostics.studies.planting": (
        "planted_scores",
        "planted_truth",
    ),
    "diagnostics.studies.probe": (
        "measure_images",
        "probe",
    ),
    "diagnostics.studies.profile": (
        "Profile",
        "profile",
        "profile_run",
    ),
    "diagnostics.studies.purification": ("purification_table",),
    "diagnostics.studies.purified_features": (
        "Purified",
        "purify",
        "purify_tokens",
    ),
    "diagnostics.studies.rollout": ("rollout",),
    "diagnostics.studies.scoring": (
        "fit_detectors",
        "score_images",
    ),
    "diagnostics.studies.stability": ("stability_table",),
    "diagnostics.studies.store": ("open_run",),
    "diagnostics.studies.summary": (
        "first_outlier_layer",
        "layer_table",
    ),
    "diagnostics.studies.thresholds": ("threshold_table",),
    "diagnostics.studies.truth": ("truth_table",),
    "diagnostics.taps": (
        "TAPS",
        "Recorder",
        "Recording",
        "Tap",
        "chain",
    ),
    "figures": ("FIGURES",),
    "figures.curves.layer_curves": (
        "layer_curve",
        "layer_overview",
    ),
    "figures.curves.planted_roc": ("planted_roc",),
    "figures.curves.probe_report": ("probe_figures",),
    "figures.curves.profile_curves": (
        "profile_layer_curves",
        "score_histograms",
    ),
    "figures.curves.roc": ("roc_curves",),
    "figures.curves.setting_curves": ("setting_curves",),
    "figures.curves.threshold_sweep": ("threshold_sweep",),
    "figures.figure_files": ("write_figure=write",),
    "figures.look": ("style",),
    "figures.maps.attention_heads": ("attention_heads",),
    "figures.maps.channels": (
        "channel_heatmap",
        "channel_means",
    ),
    "figures.maps.label_maps": ("method_sheet",),
    "figures.maps.layer_maps": (
        "maps_over_layers",
        "pca_maps",
    ),
    "figures.maps.layer_similarity": ("layer_similarity",),
    "figures.maps.profile_maps": ("profile_maps",),
    "figures.maps.score_maps": ("score_maps",),
    "figures.tables.agreement": ("agreement",),
    "figures.tables.compare_report": ("compare_figures",),
    "figures.tables.purification_bars": ("purification_bars",),
    "segment.classify": (
        "accuracy_table",
        "classify",
    ),
    "segment.datasets": (
        "DATASETS",
        "open_dataset",
    ),
    "segment.datasets.base": (
        "Dataset",
        "Sample",
    ),
    "segment.datasets.facts": ("DatasetFacts",),
    "segment.datasets.shapes": ("Shapes",),
    "segment.decoding.windows": ("Whole",),
    "segment.encoders.encode_many": ("encode_many",),
    "segment.encoders.last_block": ("LastBlock",),
    "segment.evaluation.engines.local": ("Local",),
    "segment.evaluation.engines.ray": ("RayCluster",),
    "segment.evaluation.evaluate": ("evaluate",),
    "segment.evaluation.metrics.by_method": ("miou_by_method",),
    "segment.evaluation.protocols": ("PROTOCOLS",),
    "segment.evaluation.protocols.base": (
        "Protocol",
        "Protocols",
    ),
    "segment.evaluation.score_methods": ("score_methods",),
    "segment.evaluation.threshold_cost": ("threshold_cost",),
    "segment.method": (
        "Decode",
        "Encoder",
        "Encoding",
        "Method",
        "Paper",
        "TextFeatures",
        "encoding",
    ),
    "segment.methods": ("METHODS",),
    "segment.one_image": ("segment_one",),
    "segment.run": ("SegmentRun",),
    "segment.segmenter": (
        "Segmentation",
        "Segmenter",
    ),
    "segment.text.features": ("text_features",),
    "segment.text.vocabulary": ("Vocabulary",),
    "segment.word_lens": ("word_lens",),
}

_HOMES: dict[str, tuple[str, str]] = {}
for _module, _names in NAMES_OF.items():
    for _name in _names:
        _public, _, _attribute = _name.partition("=")
        _HOMES[_public] = _module, _attribute or _public

__all__ = sorted(_HOMES)

# Packages at the top level, which another project's package or a folder of the same name may hide.
_PACKAGES = ("diagnostics", "figures", "segment")


def __getattr__(name: str) -> Any:
    # As diagnostics.lazy has it, which is not imported here: `import attention_outliers` loads nothing else of ours.
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`; dir({__name__}) lists the public names.")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _check_packages() -> None:
    """ImportError, with the file, where `diagnostics`, `figures` or `segment` is another package than ours."""
    root = Path(__file__).resolve().parents[1]
    for package in _PACKAGES:
        spec = sys.modules[package].__spec__ if package in sys.modules else find_spec(package)
        if spec is None:
            raise ImportError(f"`{package}` of attention-outliers should lie in {root}; it is missing. Install again.")
        places = [Path(place).resolve() for place in spec.submodule_search_locations or ()]
        if root / package not in places:
            other = spec.origin or ", ".join(map(str, places))
            raise ImportError(
                f"`import {package}` should give {root / package}, a part of attention-outliers; it gives {other}, "
                "which comes first on the path. Start Python in another folder, or rename or uninstall that package."
            )


_check_packages()
