"""Label maps come back from their files as they went in, and their colors are the field's."""

import json

import numpy as np
import pytest
from PIL import Image

from diagnostics.images.class_colors import class_colors
from segment.decoding.label_files import write_json, write_label_map


def test_colors_are_those_of_pascal_voc():
    # The colors of VOC's own label maps: background, aeroplane, bicycle, bird, person (15).
    colors = class_colors(21, background=0)
    assert colors[[0, 1, 2, 3, 15]].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [192, 128, 128]]


def test_without_a_background_no_class_is_black_and_all_differ():
    colors = class_colors(255)
    assert len({tuple(color) for color in colors.tolist()}) == 255
    assert (colors.sum(axis=1) > 0).all()


def test_a_background_that_is_not_first_is_black_alone():
    colors = class_colors(5, background=2)
    assert (colors.sum(axis=1) == 0).tolist() == [False, False, True, False, False]
    assert len({tuple(color) for color in colors.tolist()}) == 5


@pytest.mark.parametrize("count, mode, without", [(3, "P", 255), (255, "P", 255), (256, "I;16", 65535)])
def test_a_label_map_comes_back_from_its_file(tmp_path, count, mode, without):
    labels = np.random.default_rng(0).integers(-1, count, (7, 5))
    labels[0, 0], labels[0, 1] = count - 1, -1
    write_label_map(tmp_path / "deep" / "a.png", labels, [str(number) for number in range(count)])
    with Image.open(tmp_path / "deep" / "a.png") as image:
        assert image.mode == mode
        read = np.asarray(image).astype(int)
    assert np.array_equal(np.where(read == without, -1, read), labels)


def test_nothing_is_left_of_a_file_that_could_not_be_written_whole(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "a.json", {"names": ["größe"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"names": ["größe"]}
