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

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    image : path, PIL image or array (H, W, 3) uint8
        The image.
    classes : str, list, path, Vocabulary or TextFeatures
        `"cat, dog, grass"`, a list with a list of synonyms for a class, a file of them, or features.
    methods : str, Method, or list of them
        Specs such as `"sc-clip:detector=som"`, or methods.
    **options
        Further arguments of `ao.Segmenter`: `windows`, `size`, `refine` …

    Returns
    -------
    dict of str to int64 array (H, W)
        Class numbers by the method's spec; -1 where no window looked.

    Raises
    ------
    ImageError
        A ValueError: the image can not be read.
    ValueError
        For parts that do not fit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("pocket")
    >>> labels = ao.segment_one(backbone, ao.Shapes(scenes=1)[0].image, "zebra, grass", ["clip", "sc-clip"])
    >>> labels["sc-clip"].shape
    (112, 112)
    """
    text = classes if isinstance(classes, TextFeatures) else text_features(backbone, classes, progress=False)
    segmenter = Segmenter(backbone, methods, text, strict=True, **options)
    check_specs(segmenter.methods)
    (segmentations,) = segmenter.many([image])
    return {segmentation.method: segmentation.labels for segmentation in segmentations}
