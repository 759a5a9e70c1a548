"""CLIPtrase against what the authors' released code computed, kept outside the repository."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from diagnostics.backbones import Backbone, load_backbone
from diagnostics.images import normalize
from segment.decoding.mask_vote import pixel_labels
from segment.encoders.encode_many import encode_many
from segment.method import Cosine, Encoding, TextFeatures
from segment.methods import METHODS

VOTED = ["china_224", "flower_224", "china_336"]
ENDS = ("patch_labels", "dbscan", "clusters", "labels")
MAPPED = ["china_224", "china_rect", "flower_224", "flower_rect"]


@pytest.fixture(scope="module")
def golden(shared) -> NpzFile:
    return np.load(shared / "golden" / "calibrationB_outputs.npz")


@pytest.fixture(scope="module")
def backbone(shared) -> Backbone:
    return load_backbone(f"openai:{shared}/golden/calibrationB_weights.npz")


@pytest.fixture(scope="module")
def images(shared, backbone) -> dict[str, Tensor]:
    images = np.load(shared / "golden" / "images.npz")
    plain = {name: torch.from_numpy(images[name]).permute(2, 0, 1)[None] / 255 for name in images.files}
    return {name: normalize(image, backbone.mean, backbone.std) for name, image in plain.items()}


@pytest.fixture(scope="module")
def text(golden) -> TextFeatures:
    features = torch.from_numpy(golden["end_to_end/text_features"])
    return TextFeatures(features=features, owners=torch.arange(9), names=tuple("abcdefghi"))


def encode(backbone: Backbone, images: Tensor, spec: str = "cliptrase") -> Encoding:
    return encode_many(backbone, images, [spec])[0]


@pytest.mark.parametrize("layer", [11, 12])
@pytest.mark.parametrize("image", MAPPED)
def test_correlations_of_the_last_two_blocks_are_the_released_ones(golden, backbone, images, image, layer):
    encoding = encode(backbone, images[image], f"cliptrase:affinity_layer={layer},raw_maps=true").extras["correlation"]
    assert np.abs(encoding[0].numpy() - golden[f"cliptrase_attn{layer}/{image}"]).max() <= 1e-5


@pytest.mark.parametrize("image", VOTED)
def test_every_step_to_the_labels_is_the_released_one(golden, backbone, images, text, image):
    expected = {name: golden[f"end_to_end/cliptrase/{image}/{name}"] for name in ENDS}
    size = expected["labels"].shape
    scorer = METHODS["cliptrase"].scorer
    encoding = encode(backbone, images[image])
    labels = pixel_labels(Cosine()(encoding, text, size).maps, text.owners, size)
    assert np.array_equal(scorer.masks.clusters(encoding).labels[0].numpy(), expected["dbscan"])
    assert (labels[0].numpy() == expected["patch_labels"]).mean() >= 0.999
    assert (scorer.masks(encoding, size)[0].numpy() == expected["clusters"]).mean() >= 0.999
    scores = scorer(encoding, text, size)
    assert scores.by_class
    assert (scores.maps[:, 0][0].numpy() == expected["labels"]).mean() >= 0.999


def test_the_vote_matters_on_these_images(golden):
    for image in VOTED:
        before, after = (golden[f"end_to_end/cliptrase/{image}/{name}"] for name in ("patch_labels", "labels"))
        assert (before != after).mean() > 0.01


def test_without_denoising_the_clusters_are_others(golden, backbone, images):
    encoding = encode(backbone, images["china_224"], "cliptrase:denoise=none")
    clusters = METHODS["cliptrase"].scorer.masks.clusters(encoding).labels[0].numpy()
    assert not np.array_equal(clusters, golden["end_to_end/cliptrase/china_224/dbscan"])


def test_a_batch_of_both_images_has_the_labels_of_each(golden, backbone, images, text):
    both = torch.cat([images["china_224"], images["flower_224"]])
    labels = METHODS["cliptrase"].scorer(encode(backbone, both), text, (224, 224)).maps[:, 0]
    for number, image in enumerate(("china_224", "flower_224")):
        assert (labels[number].numpy() == golden[f"end_to_end/cliptrase/{image}/labels"]).mean() >= 0.999
