"""From image to labels, against what the authors' released code computes; runs where its outputs are at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diagnostics.backbones import Backbone, load_backbone
from diagnostics.images import normalize, to_tensor
from segment.decoding.decode import decode
from segment.decoding.merge import ScoreAccumulator
from segment.decoding.refine.pamr import pamr
from segment.encoders.encode_many import encode_many
from segment.method import Cosine, Decode, TextFeatures
from segment.segmenter import Segmenter


@pytest.fixture(scope="module")
def outputs(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / "calibrationB_outputs.npz") as file:
        return {key.removeprefix("end_to_end/"): file[key] for key in file.files if key.startswith("end_to_end/")}


@pytest.fixture(scope="module")
def backbone(shared: Path) -> Backbone:
    return load_backbone(f"openai:{shared / 'golden' / 'calibrationB_weights.npz'}")


@pytest.fixture(scope="module")
def segmenter(backbone: Backbone, outputs: dict[str, np.ndarray]) -> Segmenter:
    """SC-CLIP over windows of 224, 112 apart, on images as they are; class 0 is the background."""
    features = torch.from_numpy(outputs["text_features"])
    names = tuple(f"class {number}" for number in range(len(features)))
    text = TextFeatures(features=features, owners=torch.arange(len(features)), names=names, background=0)
    return Segmenter(backbone, "sc-clip", text, size="native", windows="slide:crop=224,stride=112")


def test_averaged_cosines_equal_the_released_code(segmenter, outputs):
    scores = segmenter.scores(outputs["slide/image"])[0]
    expected = torch.from_numpy(outputs["slide/logits_336x504_fp16"].astype(np.float32))
    assert (scores - expected).abs().max() < 1e-3


@pytest.mark.parametrize("threshold, key", [(0.0, "labels_427x640"), (0.15, "labels_thd015")])
def test_labels_at_the_images_own_size_equal_the_released_code(segmenter, backbone, outputs, threshold, key):
    # The outputs are for an image of 427 x 640 whose resized form is the one given: so from the windows on, by hand.
    image = normalize(to_tensor(Image.fromarray(outputs["slide/image"])), backbone.mean, backbone.std)
    places = segmenter.windows.places((336, 504), backbone.native_size)
    gathering = ScoreAccumulator(places, (427, 640))
    for number, window in enumerate(places.cut(image)):
        encoded = encode_many(backbone, window[None], segmenter.methods)[0]
        gathering.add(number, Cosine()(encoded, segmenter.text, places.window).maps[0], encoded.padding)
    scores = gathering.merged(segmenter.text.owners)
    labels = decode(scores, Decode(scale=40, threshold=threshold), background=0).labels.numpy()
    assert labels.shape == outputs[f"slide/{key}"].shape
    assert (labels == outputs[f"slide/{key}"]).mean() >= 0.999


@pytest.mark.parametrize(
    "key, iterations, dilations",
    [("it1_d1-2", 1, (1, 2)), ("it10_d8-16", 10, (8, 16)), ("it10_d1-2-4-8-12-24", 10, (1, 2, 4, 8, 12, 24))],
)
def test_pamr_equals_the_released_code(outputs, key, iterations, dilations):
    image, maps = (torch.from_numpy(outputs[f"pamr/{name}"])[None] for name in ("image", "logits"))
    refined = pamr(image, maps, iterations=iterations, dilations=dilations)[0]
    assert (refined - torch.from_numpy(outputs[f"pamr/{key}"])).abs().max() < 1e-3


@pytest.mark.parametrize("name, side", [("china_224", 224), ("flower_224", 224), ("china_336", 336)])
@pytest.mark.parametrize("key, spec", [("labels", "cliptrase"), ("patch_labels", "cliptrase:vote=none")])
def test_cliptrases_labels_equal_the_released_code(shared, backbone, segmenter, outputs, name, side, key, spec):
    with np.load(shared / "golden" / "images.npz") as images:
        image = images[name]
    whole = Segmenter(
        backbone,
        spec,
        replace(segmenter.text, background=None),
        size="native",
        windows=f"center:size={side}",
        decode=Decode(scale=100),
    )
    answer = next(whole(image)).labels
    assert (answer == outputs[f"cliptrase/{name}/{key}"]).mean() >= 0.999
