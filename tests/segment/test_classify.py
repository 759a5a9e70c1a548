"""Zero-shot classification: the stock model's own answer, and what purifying on the way does to it."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diagnostics.backbones import load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.images import normalize
from segment.classify import accuracy_table, class_probabilities, classify
from segment.encoders.layerwise import fitted_layerwise
from segment.method import TextFeatures


@pytest.fixture(scope="module")
def text(tiny):
    width = tiny.project(torch.zeros(1, 1, tiny.width)).shape[-1]
    features = F.normalize(torch.randn(4, width, generator=torch.Generator().manual_seed(0)), dim=1)
    return TextFeatures(features=features, owners=torch.tensor([0, 1, 1, 2]), names=("cat", "dog", "grass"))


@pytest.fixture
def images():
    return list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))


def test_stock_answers_are_those_of_the_model_itself(tiny, text, images):
    answers, left_out = classify(tiny, images, text, top=3)
    assert left_out == {}
    assert list(answers.columns) == ["name", "way", "rank", "class", "probability"]
    pixels = normalize(torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255, tiny.mean, tiny.std)
    with torch.no_grad():
        cosines = F.normalize(tiny.model.encode_image(pixels), dim=-1) @ text.features.T
    for number in range(3):
        softmax = (100 * cosines[number]).softmax(0)
        expected = torch.stack([softmax[0], softmax[1:3].max(), softmax[3]])
        part = answers[answers["name"] == f"image-{number + 1:04d}"]
        assert part["rank"].tolist() == [1, 2, 3]
        assert part["class"].iloc[0] == text.names[int(expected.argmax())]
        assert part["probability"].to_numpy() == pytest.approx(expected.sort(descending=True).values.numpy(), abs=1e-4)


def test_a_classifier_answers_by_the_feature_that_enters_its_head(images):
    """Cosine with unit rows: what is left of the stock logits without biases and lengths."""
    backbone = load_backbone("tiny:registers=4")
    rows = F.normalize(backbone.class_head().detach().float()[:3], dim=1)
    text = TextFeatures(features=rows, owners=torch.arange(3), names=("cat", "dog", "grass"))
    answers, _ = classify(backbone, images, text, top=3, size="native")
    pixels = normalize(torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255, backbone.mean, backbone.std)
    with torch.no_grad():
        features = backbone.model.forward_head(backbone.model.forward_features(pixels), pre_logits=True)
    softmax = (100 * F.normalize(features, dim=-1) @ rows.T).softmax(-1)
    for number in range(3):
        part = answers[answers["name"] == f"image-{number + 1:04d}"]
        assert part["probability"].to_numpy() == pytest.approx(softmax[number].sort(descending=True).values, abs=1e-4)


def test_a_image_of_the_truth_goes_by_its_path_its_file_or_its_stem(tiny, text, tmp_path):
    for name in ("a/one.png", "b/two.png", "b/three.png", "b/four.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    truth = {"a/one.png": "cat", "two.png": "DOG", "three": "grass", "elsewhere.png": "cat"}
    answers, _ = classify(tiny, tmp_path, text, truth=truth, top=3)
    right = answers[answers["right"].notna()]
    assert dict(zip(right["name"], right["class"], strict=True)).keys() == {"a/one.png", "b/two.png", "b/three.png"}
    classes = {row["name"]: row["class"] for _, row in right.iterrows() if row["right"]}
    assert classes == {"a/one.png": "cat", "b/two.png": "dog", "b/three.png": "grass"}


def test_a_truth_that_names_none_of_the_images_is_refused(tiny, text, images):
    with pytest.raises(ValueError, match="such as `image-0001`; none of its 1 names is among them, such as `photo`"):
        classify(tiny, images, text, truth={"photo": "cat"})


def test_keep_changes_nothing_and_a_purifier_at_every_layer_does(tiny, text, images):
    answers, _ = classify(tiny, images, text, detector="random", purifiers=["keep", "zero"])
    by_way = {way: part["probability"].to_numpy() for way, part in answers.groupby("way", sort=False)}
    assert list(by_way) == ["stock", "keep", "zero"]
    assert by_way["keep"] == pytest.approx(by_way["stock"], abs=1e-6)
    assert np.abs(by_way["zero"] - by_way["stock"]).max() > 1e-3


def test_probabilities_take_the_best_of_a_classs_queries(text):
    softer = replace(text, logit_scale=3.0)
    pooled = 7 * text.features[2:3]
    probabilities = class_probabilities(pooled, softer)
    softmax = (3 * (text.features[2:3] @ text.features.T)).softmax(-1)[0]
    expected = torch.stack([softmax[0], softmax[1:3].max(), softmax[3]])
    assert probabilities[0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_accuracy_by_hand():
    answers = pd.DataFrame(
        [
            ("a", "stock", 1, "cat", 0.9, True),
            ("a", "stock", 2, "dog", 0.1, False),
            ("b", "stock", 1, "cat", 0.6, False),
            ("b", "stock", 2, "dog", 0.4, True),
            ("c", "stock", 1, "cat", 0.6, None),
        ],
        columns=["name", "way", "rank", "class", "probability", "right"],
    )
    table = accuracy_table(answers)
    assert table.loc["stock"].to_dict() == {"images": 2, "top1": 0.5, "top2": 1.0}


def test_a_truth_that_is_no_class_is_refused(tiny, text, images):
    with pytest.raises(ValueError, match=r"no class for the image `image-0001` `horse`\. Known: cat, dog, grass"):
        classify(tiny, images, text, truth={"image-0001": "horse"})


@pytest.mark.parametrize("detector", ["register-neuron", "singular-defect"])
def test_detectors_that_learn_are_made_ready_on_the_first_images(text, images, detector):
    tiny = load_backbone("tiny:outliers=true")
    answers, _ = classify(tiny, images, text, detector=detector, purifiers=["zero"], layers=[3, -2], size="native")
    ready = fitted_layerwise(DETECTORS.build(detector), tiny, as_tensor(tiny, images), [3, tiny.depth - 1])
    expected, _ = classify(tiny, images, text, detector=ready, purifiers=["zero"], layers=[3, -2], size="native")
    pd.testing.assert_frame_equal(answers, expected)


def as_tensor(backbone, images):
    return normalize(torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255, backbone.mean, backbone.std)


def test_a_model_of_the_sigmoid_loss_gives_each_text_its_own_probability():
    pooled = torch.tensor([[0.10, 0.13, 0.08, (1 - 0.10**2 - 0.13**2 - 0.08**2) ** 0.5]])
    features, owners = torch.eye(4)[:3], torch.tensor([0, 1, 1])
    text = TextFeatures(features=features, owners=owners, names=("cat", "dog"), logit_scale=90.0, logit_bias=-10.0)
    each = [1 / (1 + math.exp(10 - 90 * cosine)) for cosine in (0.10, 0.13, 0.08)]
    assert class_probabilities(pooled, text)[0].tolist() == pytest.approx([each[0], max(each[1:])], rel=1e-4)
    total = 1 + math.exp(-2.7) + math.exp(-4.5)
    soft = class_probabilities(pooled, replace(text, logit_bias=None))[0]
    assert soft.tolist() == pytest.approx([math.exp(-2.7) / total, 1 / total], rel=1e-4)


def test_images_of_which_none_can_be_read_are_refused_with_the_first_reason(tiny, text, tmp_path):
    # Headers say nothing of what is missing behind them.
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.gif")
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[: int(0.9 * len(content))])
    with pytest.raises(ValueError, match=r"none of the 1 images can be read.*a\.gif"):
        classify(tiny, tmp_path / "a.gif", text)
