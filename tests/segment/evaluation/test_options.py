"""The options of an evaluation as a value, and specs of methods under a protocol."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diagnostics.options import RunOptions
from segment.evaluation.job import MethodSpec, under_protocol, with_protocol
from segment.evaluation.options import HEEDED, EvaluationKeywords, EvaluationOptions
from segment.evaluation.protocols import protocol_for


def test_options_of_a_run_are_taken_over():
    run = RunOptions(batch=3, device="cpu", precision="bf16", progress=True)
    options = EvaluationOptions.of(run)
    assert (options.batch, options.device, options.precision, options.progress) == (3, "cpu", "bf16", True)
    assert (options.limit, options.threads, options.boundary) == (None, 1, True)
    assert EvaluationOptions.of(options) is options
    assert EvaluationOptions.of(None) == EvaluationOptions()


def test_the_typed_keywords_are_the_options_that_are_heeded():
    assert sorted(EvaluationKeywords.__annotations__) == sorted(HEEDED)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"limit": 0}, "`limit` should be at least 1 image; got 0"),
        ({"shard": -1}, "`shard` should be at least 1 image; got -1"),
        ({"threads": 0}, "`threads` should be at least 1 thread; got 0"),
        ({"batch": 0}, "`batch` should be at least 1; got 0"),
    ],
)
def test_values_that_no_evaluation_can_have_are_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        EvaluationOptions(**keywords)


def test_the_size_is_the_protocols_and_not_an_option():
    with pytest.raises(TypeError, match="`evaluate` has no option `size`"):
        EvaluationOptions().merged("evaluate", {"size": 224}, uses=HEEDED)
    with pytest.raises(ValueError, match="`evaluate` can't heed `layers`"):
        EvaluationOptions(layers=[1]).merged("evaluate", {}, uses=HEEDED)


@pytest.fixture
def protocol():
    ours = protocol_for("ours", "voc21")
    return replace(ours, method_fields=(("sclip", "threshold=0.3,scale=7"),), scale=50.0, threshold=0.1)


def test_what_the_protocol_sets_for_a_method_is_added_and_the_specs_own_fields_win(protocol):
    assert with_protocol(("sclip", "sclip:scale=9", "clip"), protocol) == (
        "sclip:threshold=0.3,scale=7", "sclip:scale=9,threshold=0.3", "clip",
    )  # fmt: skip


def test_a_spec_is_the_same_method_parsed_here_or_built_from_its_text_elsewhere(protocol):
    spec = MethodSpec.under("sclip:scale=9", protocol)
    method = spec.method(protocol)
    assert method == under_protocol(spec.text, protocol)
    assert MethodSpec.under(spec.text, protocol) == spec
    assert (method.decode.scale, method.decode.threshold) == (9, 0.3)
    assert method.spec == "sclip:scale=9,threshold=0.3"
    stock = MethodSpec.under("clip", protocol).method(protocol)
    assert (stock.decode.scale, stock.decode.threshold) == (50, 0.1)
