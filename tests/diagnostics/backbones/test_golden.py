"""Against numbers that the authors' released code computed, kept outside the repository."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diagnostics.backbones import load_backbone


@pytest.mark.parametrize("model", ["B", "L"])
def test_dense_clip_features_are_those_of_the_released_code(model, shared):
    folder = shared / "golden"
    backbone = load_backbone(f"openai:{folder}/calibration{model}_weights.npz", positions="bicubic-offset")
    expected = np.load(folder / f"calibration{model}_outputs.npz")
    photos = np.load(folder / "images.npz")
    keys = [key for key in expected.files if key.startswith("clip/")]
    assert len(keys) == 6
    mean, std = (torch.tensor(value)[:, None, None] for value in (backbone.mean, backbone.std))
    for key in keys:
        image = torch.from_numpy(photos[key.partition("/")[2]]).permute(2, 0, 1) / 255
        images = ((image - mean) / std)[None]
        features = backbone.layout(images).patches(backbone.project(backbone.trunk(images)))[0]
        assert (features - torch.from_numpy(expected[key])).abs().max() <= 1e-3, key
