"""One image, some words, some methods: the short way for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diagnostics.backbones.base import Backbone
from segment.method import Method, TextFeatures
from segment.segmenter import Segmenter, check_specs
from segment.text.features import text_features
from segment.text.vocabulary import Vocabulary


def segment_one(
    backbone: Backbone,
    image: Any,
    classes: TextFeatures | Vocabulary | str | Path | Sequence[str | Sequence[str]],
    methods: str | Method | Sequence[str | Method],
    **options: Any,
) -> dict[str, np.ndarray]:
    """Label maps of one image by each method: spec -> (H, W) class numbers in the image's own size.

    `image`: a file, a PIL image, or uint8 (H, W, 3). `classes`: words as Vocabulary.parse takes them, or their
    features. Other options as Segmenter's; an image that can't be read raises ImageError.
    """
    text = classes if isinstance(classes, TextFeatures) else text_features(backbone, classes, progress=False)
    segmenter = Segmenter(backbone, methods, text, strict=True, **options)
    check_specs(segmenter.methods)
    (found,) = segmenter.many([image])
    return {one.method: one.labels for one in found}
