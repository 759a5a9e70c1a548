"""Attention of one image as an array, against softmax(q·kᵀ/√d) written out and the attention at the tap."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from diagnostics.backbones import load_backbone
from diagnostics.studies import attention_maps
from diagnostics.studies.attention_maps import attention

SPECS = ["tiny", "tiny:class_token=false", "tiny:registers=4", "tiny:class_token=false,registers=3"]


@pytest.fixture
def image(half_plain):
    return half_plain[0]


def written_out(recording, layer, head):
    q, k = (recording[name, layer][0, head].double().numpy() for name in ("query", "key"))
    matrix = np.zeros((len(q), len(k)))
    for row in range(len(q)):
        logits = np.exp([float(q[row] @ key) / np.sqrt(q.shape[1]) for key in k])
        matrix[row] = logits / logits.sum()
    return matrix


@pytest.mark.parametrize("spec", SPECS)
def test_the_matrix_is_that_of_the_head_written_out(spec, image, recorded):
    backbone = load_backbone(spec)
    recording, tokens = recorded(backbone, image), backbone.prefix + 24
    heads = [attention(backbone, image, layer=9, head=head, size="native") for head in range(2)]
    for head, matrix in enumerate(heads):
        assert matrix.shape == (tokens, tokens)
        assert matrix.dtype == np.float32
        assert np.allclose(matrix, written_out(recording, 9, head), atol=1e-5)
        assert np.allclose(matrix, recording["attention", 9][0, head].numpy(), atol=1e-5)
        assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(attention(backbone, image, layer=-4, size="native"), np.mean(heads, axis=0), atol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_a_token_has_a_map_over_the_patches(spec, image):
    backbone = load_backbone(spec)
    matrix = attention(backbone, image, layer=9, head=1, size="native")
    of_patch = attention(backbone, image, layer=9, head=1, query=(2, 5), size="native")
    prefix = backbone.prefix
    for row in range(4):
        for col in range(6):
            assert of_patch[row, col] == pytest.approx(matrix[prefix + 2 * 6 + 5, prefix + row * 6 + col], abs=1e-6)
    if backbone.class_index is None:
        with pytest.raises(ValueError, match="no class token"):
            attention(backbone, image, layer=9, query="class", size="native")
    else:
        by_class = attention(backbone, image, layer=9, head=1, query="class", size="native")
        assert np.allclose(by_class.reshape(-1), matrix[backbone.class_index, prefix:], atol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layer": 0}, "1…12"),
        ({"layer": 13}, "0…12"),
        ({"head": 2}, "from 0 to 1, or None"),
        ({"head": -1}, "from 0 to 1"),
        ({"query": (4, 0)}, "within 4 rows and 4 columns"),
        ({"query": (0, -1)}, "within 4 rows"),
        ({"query": "cls"}, "`class` or"),
        ({"query": 7}, "`class` or"),
    ],
)
def test_what_is_not_there_is_refused(settings, message, tiny, image):
    with pytest.raises(ValueError, match=message):
        attention(tiny, image, **settings)


def test_one_image_is_asked_for(tiny, image, tmp_path):
    with pytest.raises(ValueError, match="one image; got 2"):
        attention(tiny, [image, image])
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png"):
        attention(tiny, tmp_path / "a.png")


def test_the_example_runs():
    results = doctest.testmod(attention_maps)
    assert results.attempted > 2
    assert results.failed == 0
