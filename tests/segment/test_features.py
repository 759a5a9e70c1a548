"""A method's dense features in a file: those of the method, also where its detector learns."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diagnostics.backbones import load_backbone
from diagnostics.images import normalize
from diagnostics.options import RunOptions
from segment.encoders.encode_many import encode_many
from segment.features import encode_images
from segment.methods import METHODS


@pytest.fixture(scope="module")
def outlying():
    return load_backbone("tiny:outliers=true")


@pytest.fixture
def images():
    return list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("detector", ["lof(neighbors=5)", "register-neuron", "singular-defect"])
def test_features_are_those_of_the_method_made_ready_on_the_first_images(outlying, images, detector, tmp_path):
    spec = f"clearclip:detector={detector},purifier=zero"
    options = {"size": "native", "out": tmp_path / "features.safetensors"}
    assert encode_images(outlying, images, spec, **options) == {}
    pixels = normalize(torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255, outlying.mean, outlying.std)
    (expected,) = encode_many(outlying, pixels, [METHODS.build(spec).fitted(outlying, pixels)])
    stored = load_file(options["out"])
    for number in range(3):
        features = stored[f"image-{number + 1:04d}"]
        torch.testing.assert_close(features, expected.layout.to_map(expected.patches)[number], rtol=1e-4, atol=1e-4)


def test_options_as_one_value_reach_both_the_fitting_and_the_run(outlying, images, tmp_path):
    spec = "clearclip:detector=lof(neighbors=5),purifier=zero"
    options = RunOptions(size="48", batch=2)
    encode_images(outlying, images, spec, out=tmp_path / "value.safetensors", options=options)
    encode_images(outlying, images, spec, out=tmp_path / "keywords.safetensors", size=48, batch=2)
    as_value, as_keywords = (load_file(tmp_path / f"{name}.safetensors") for name in ("value", "keywords"))
    assert as_value["image-0001"].shape[:2] == (3, 3)
    assert all(torch.equal(as_value[name], as_keywords[name]) for name in as_keywords)
    with pytest.raises(TypeError, match="`encode_images` has no option `layers`"):
        encode_images(outlying, images, spec, out=tmp_path / "layers.safetensors", layers=[1])
