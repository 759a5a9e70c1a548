"""The short way gives what the long way gives."""

import numpy as np
import pytest

import segment


def test_label_maps_of_one_image_equal_those_of_a_segmenter(tiny):
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    maps = segment.segment_one(tiny, image, "cat, dog, grass", ["clip", "clearclip"], windows="whole")
    assert list(maps) == ["clip", "clearclip"]
    text = segment.text_features(tiny, "cat, dog, grass")
    (long,) = segment.Segmenter(tiny, "clearclip", text, windows="whole")([image])
    assert maps["clearclip"].shape == (70, 90)
    assert np.array_equal(maps["clearclip"], long.labels)


def test_a_image_that_cannot_be_read_is_named(tiny, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.jpg"):
        segment.segment_one(tiny, tmp_path / "a.jpg", "cat, dog", "clip")
