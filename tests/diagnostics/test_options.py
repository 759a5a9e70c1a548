"""The options that runs share: what they hold, what they refuse, who heeds what."""

from __future__ import annotations

import doctest
from dataclasses import FrozenInstanceError, fields

import pytest

from diagnostics import options as module
from diagnostics.images.sizes import Size
from diagnostics.options import RunKeywords, RunOptions, run_options


def test_the_values_as_given_come_as_one_kind_each():
    options = RunOptions(size="336x224", layers=[1, -1], batch=3)
    assert options.size == Size(height=224, width=336)
    assert options.layers == (1, -1)
    assert RunOptions(size=(224, 336)) == RunOptions(size="336x224")
    assert hash(options) == hash(RunOptions(size="336x224", layers=(1, -1), batch=3))
    with pytest.raises(FrozenInstanceError):
        options.batch = 1  # type: ignore[misc]


def test_without_a_size_images_come_in_the_backbones_own():
    assert RunOptions().size_for((14, 28)).of(500, 400) == (14, 28)
    assert RunOptions(size="native").size_for((14, 28)).of(500, 400) == (400, 500)


@pytest.mark.parametrize(
    ("images", "batch", "numbers"),
    [(0, 2, []), (2, 2, [[0, 1]]), (5, 2, [[0, 1], [2, 3], [4]]), (3, 8, [[0, 1, 2]])],
)
def test_blocks_hold_every_image_once(images, batch, numbers):
    assert [list(block) for block in RunOptions(batch=batch).blocks(images)] == numbers


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"batch": 0}, "`batch` should be at least 1; got 0"),
        ({"batch": True}, "`batch` should be at least 1; got True"),
        ({"batch": 2.5}, "`batch` should be at least 1; got 2.5"),
        ({"size": "big"}, "`big` is not a size"),
        ({"layers": "1-3"}, "`layers` should be whole numbers such as .*; got '1-3'"),
        ({"layers": 3}, "`layers` should be whole numbers such as .*; got 3"),
        ({"layers": [1.5]}, r"`layers` should be whole numbers such as .*; got \[1.5\]"),
        ({"layers": []}, "`layers` should name at least one layer"),
        ({"device": "gpu"}, "`device` should be auto, cpu, cuda, cuda:N or mps; got `gpu`"),
        ({"device": "cuda:"}, "got `cuda:`"),
        ({"precision": "fp16"}, "`precision` should be fp32 or bf16; got `fp16`"),
        ({"strict": "no"}, "`strict` should be True or False; got 'no'"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        RunOptions(**keywords)
    with pytest.raises(ValueError, match=message):
        RunOptions().changed(**keywords)


def test_keywords_go_over_the_options():
    options = RunOptions(batch=2, strict=True, device="cpu")
    merged = run_options("probe", options, {"batch": 4}, uses={"batch", "strict"})
    assert (merged.batch, merged.strict, merged.device) == (4, True, "cpu")
    assert run_options("probe", None, {}, uses={"batch"}) == RunOptions()


def test_an_option_that_the_function_would_pass_over_is_refused():
    with pytest.raises(TypeError, match=r"`probe` has no option `bach`\. Did you mean `batch`.*: size, batch"):
        run_options("probe", None, {"bach": 4}, uses={"batch", "size"})
    with pytest.raises(TypeError, match="`probe` has no option `layers`"):
        run_options("probe", None, {"layers": [1]}, uses={"batch"})
    with pytest.raises(ValueError, match=r"`probe` can't heed `layers`; leave it out: options.changed\(layers=None\)"):
        run_options("probe", RunOptions(layers=[1]), {}, uses={"batch"})


def test_the_typed_keywords_are_the_fields():
    assert list(RunKeywords.__annotations__) == [field.name for field in fields(RunOptions)]


def test_the_example_is_true():
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
