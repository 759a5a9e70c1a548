"""OpenCV's bilinear resize: by hand, by what OpenCV 4.14 gave, and beside torch's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diagnostics.images import resize
from diagnostics.images.opencv_resize import opencv_bilinear

PIXELS = ((np.arange(5 * 7 * 3).reshape(5, 7, 3) * 37) % 251).astype(np.uint8)

# cv2.resize(PIXELS, (width, height), interpolation=cv2.INTER_LINEAR)[..., 0] of opencv-python-headless 4.14.0.94.
# fmt: off
BY_OPENCV = {
    (4, 3): [[77, 85, 93], [107, 115, 123], [137, 145, 153], [167, 175, 110]],
    (3, 10): [
        [8, 69, 147, 224, 139, 129, 194, 96, 111, 172], [48, 109, 124, 26, 91, 169, 234, 136, 151, 212],
        [88, 149, 164, 66, 131, 121, 36, 113, 116, 84],
    ],
    (8, 14): [
        [0, 28, 83, 139, 194, 187, 117, 110, 165, 158, 88, 81, 136, 164],
        [11, 38, 94, 149, 205, 197, 127, 120, 176, 168, 99, 91, 147, 175],
        [26, 53, 109, 160, 208, 201, 138, 135, 191, 183, 114, 106, 162, 190],
        [41, 68, 124, 136, 105, 98, 114, 150, 206, 198, 129, 121, 177, 205],
        [56, 83, 139, 132, 61, 54, 110, 145, 162, 155, 124, 136, 192, 220],
        [71, 98, 154, 147, 76, 69, 125, 121, 59, 52, 100, 151, 207, 235],
        [86, 113, 169, 162, 91, 84, 140, 132, 62, 55, 111, 131, 116, 108],
        [96, 124, 179, 172, 102, 95, 150, 143, 73, 66, 121, 114, 44, 9],
    ],
}
# fmt: on


@pytest.mark.parametrize("size", list(BY_OPENCV))
def test_it_equals_opencv_to_the_bit(size):
    assert opencv_bilinear(PIXELS, *size)[..., 0].tolist() == BY_OPENCV[size]


def test_twice_as_wide_takes_quarters_by_hand():
    row = np.array([0, 100], np.uint8)[None, :, None].repeat(3, axis=2)
    assert opencv_bilinear(row, 1, 4)[0, :, 0].tolist() == [0, 25, 75, 100]


def test_exactly_one_half_is_the_rounded_mean_of_four():
    pixels = np.array([[0, 1], [1, 0]], np.uint8)[..., None]
    assert opencv_bilinear(pixels, 1, 1).item() == 1  # 2/4 is rounded up


def test_shrinking_looks_at_two_pixels_a_side_and_does_not_antialias():
    pixels = np.zeros((1, 9, 1), np.uint8)
    pixels[0, [0, 2, 3, 5, 6, 8]] = 255  # only the middles of each three are dark
    assert opencv_bilinear(pixels, 1, 3)[0, :, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [(30, 17), (64, 41), (91, 200), (1, 1)])
def test_it_is_within_one_of_exact_interpolation(size):
    pixels = np.random.default_rng(0).integers(0, 256, (51, 64, 3), dtype=np.uint8)
    exact = F.interpolate(torch.from_numpy(pixels).permute(2, 0, 1)[None].double(), size=size, mode="bilinear")
    resized = torch.from_numpy(opencv_bilinear(pixels, *size)).permute(2, 0, 1)
    assert (resized - exact[0]).abs().max() <= 1


def test_the_same_size_is_a_copy():
    resized = opencv_bilinear(PIXELS, 5, 7)
    assert np.array_equal(resized, PIXELS)
    assert not np.shares_memory(resized, PIXELS)


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        opencv_bilinear(PIXELS.astype(np.float32), 3, 3)


def test_resize_knows_it_by_name():
    resized = np.asarray(resize(Image.fromarray(PIXELS), 4, 3, resampling="opencv"))
    assert np.array_equal(resized, opencv_bilinear(PIXELS, 4, 3))
    with pytest.raises(ValueError, match="Did you mean `opencv`"):
        resize(Image.fromarray(PIXELS), 4, 3, resampling="open-cv")
