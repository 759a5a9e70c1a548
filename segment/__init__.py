"""Images and words in, label maps out.

import segment
from diagnostics import load_backbone

backbone = load_backbone("pocket")
labels = segment.segment_one(backbone, "photo.jpg", "zebra, grass, sky", ["clip", "sc-clip"])
"""

from segment.encoders.encode_many import encode_many
from segment.method import Decode, Method, TextFeatures
from segment.methods import METHODS
from segment.one_image import segment_one
from segment.segmenter import Segmentation, Segmenter
from segment.text.features import text_features
from segment.text.vocabulary import Vocabulary

__all__ = [
    "METHODS",
    "Decode",
    "Method",
    "Segmentation",
    "Segmenter",
    "TextFeatures",
    "Vocabulary",
    "encode_many",
    "segment_one",
    "text_features",
]
