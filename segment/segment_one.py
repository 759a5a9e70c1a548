"""One picture, some words, some methods: the short way for a notebook."""

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
    picture: Any,
    classes: TextFeatures | Vocabulary | str | Path | Sequence[str | Sequence[str]],
    methods: str | Method | Sequence[str | Method],
    **options: Any,
) -> dict[str, np.ndarray]:
    """Label maps of one picture by each method: spec -> (H, W) class numbers in the picture's own size.

    `picture`: a file, a PIL picture, or uint8 (H, W, 3). `classes`: words as Vocabulary.parse takes them, or their
    features. Other options as Segmenter's; a picture that can't be read raises PictureError.
    """
    text = classes if isinstance(classes, TextFeatures) else text_features(backbone, classes, progress=False)
    segmenter = Segmenter(backbone, methods, text, strict=True, **options)
    check_specs(segmenter.methods)
    (found,) = segmenter.many([picture])
    return {one.method: one.labels for one in found}
