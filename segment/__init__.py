"""Images and words in, label maps out.

import segment
from diagnostics import load_backbone

backbone = load_backbone("pocket")
labels = segment.segment_one(backbone, "photo.jpg", "zebra, grass, sky", ["clip", "sc-clip"])
"""

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "segment.encoders.encode_many": ("encode_many",),
        "segment.method": ("Decode", "Method", "TextFeatures"),
        "segment.methods": ("METHODS",),
        "segment.one_image": ("segment_one",),
        "segment.segmenter": ("Segmentation", "Segmenter"),
        "segment.text.features": ("text_features",),
        "segment.text.vocabulary": ("Vocabulary",),
    },
)
