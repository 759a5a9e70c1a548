import pytest

from figures.tables.frames import short_specs, spec_in_lines


def test_words_lose_the_names_of_their_fields_and_numbers_keep_them():
    specs = ["lof", "norm:threshold=100", "adaptive:detector=relative-norm,rule=otsu", "knn:x=-.5"]
    expected = ["lof", "norm:threshold=100", "adaptive:relative-norm,otsu", "knn:x=-.5"]
    assert list(short_specs(specs).values()) == expected


def test_specs_that_would_become_the_same_stay_whole():
    specs = ["som:votes=yes", "som:ratio=yes", "lof:tap=block_in"]
    assert list(short_specs(specs).values()) == ["som:votes=yes", "som:ratio=yes", "lof:block_in"]


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        ("lof", ["lof"]),
        ("received-attention", ["received-", "attention"]),
        ("adaptive:relative-norm,otsu", ["adaptive:", "relative-", "norm,otsu"]),
        ("norm:threshold=-100", ["norm:", "threshold=-", "100"]),
    ],
)
def test_a_spec_is_broken_after_its_signs(spec, lines):
    assert spec_in_lines(spec, 12).split("\n") == lines
    assert spec_in_lines(spec, 100) == spec
