"""The word lens: the best cosine of projected tokens, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diagnostics.backbones import load_backbone
from diagnostics.images import normalize
from diagnostics.taps import Recorder
from segment.datasets.shapes import Shapes
from segment.text.features import text_features
from segment.word_lens import word_lens


def test_each_patch_says_the_word_that_its_projected_token_is_nearest_to():
    backbone = load_backbone("pocket")
    text = text_features(backbone, "zebra, tiger, grass, sky", "plain", cache=None, progress=False)
    image = Shapes(scenes=1)[0].image
    lens = word_lens(backbone, image, text, layers=[6, 12])
    recorder = Recorder("block_out", layers=[6, 12])
    with torch.no_grad():
        shown = normalize(torch.from_numpy(image).permute(2, 0, 1) / 255, backbone.mean, backbone.std)[None]
        backbone.trunk(shown, tap=recorder)
        layout = backbone.layout(shown)
        for layer in (6, 12):
            patches = F.normalize(layout.patches(backbone.project(recorder["block_out", layer])), dim=-1)
            cosines = (patches @ F.normalize(text.features, dim=-1).T)[0]
            word = lens["word"].sel(layer=layer).values[0]
            assert (word.ravel() == text.owners[cosines.argmax(dim=1)].numpy()).all()
            best = lens["cosine"].sel(layer=layer).values[0].ravel()
            assert best == pytest.approx(cosines.amax(dim=1).numpy(), abs=1e-5)
    assert lens.attrs["names"] == ["zebra", "tiger", "grass", "sky"]


def test_words_of_another_space_are_refused():
    text = text_features(load_backbone("pocket"), "zebra, grass", "plain", cache=None, progress=False)
    with pytest.raises(ValueError, match="Make the words' features with this backbone"):
        word_lens(load_backbone("tiny"), np.zeros((64, 64, 3), np.uint8), text)
