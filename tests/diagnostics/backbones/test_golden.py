"""Against numbers that the authors' released code computed, kept outside the repository.

OUTLIERS_SHARED names the folder that holds `golden/`; without it these tests are skipped.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from diagnostics.backbones import load_backbone

FOLDER = Path(os.environ.get("OUTLIERS_SHARED", "")) / "golden"
pytestmark = pytest.mark.skipif(
    "OUTLIERS_SHARED" not in os.environ or not FOLDER.is_dir(),
    reason="the golden outputs are not here: OUTLIERS_SHARED should name the folder that holds golden/",
)


@pytest.mark.parametrize("model", ["B", "L"])
def test_dense_clip_features_are_those_of_the_released_code(model):
    backbone = load_backbone(f"openai:{FOLDER}/calibration{model}_weights.npz", positions="bicubic-offset")
    expected = np.load(FOLDER / f"calibration{model}_outputs.npz")
    pictures = np.load(FOLDER / "images.npz")
    keys = [key for key in expected.files if key.startswith("clip/")]
    assert len(keys) == 6
    mean, std = (torch.tensor(value)[:, None, None] for value in (backbone.mean, backbone.std))
    for key in keys:
        picture = torch.from_numpy(pictures[key.partition("/")[2]]).permute(2, 0, 1) / 255
        images = ((picture - mean) / std)[None]
        features = backbone.layout(images).patches(backbone.project(backbone.trunk(images)))[0]
        assert (features - torch.from_numpy(expected[key])).abs().max() <= 1e-3, key
