"""Groups of options on the command line become the options of a run, as one value."""

from __future__ import annotations

from attention_outliers.commands.evaluate_options import Work
from attention_outliers.commands.options import Model, Passes
from attention_outliers.commands.output import Output
from attention_outliers.commands.segment_options import Decoding
from diagnostics.options import RunOptions
from segment.evaluation.options import EvaluationOptions


def test_options_of_images_and_batches_become_those_of_a_run():
    passes = Passes(size="short:64", batch=3, strict=True)
    expected = RunOptions(size="short:64", batch=3, strict=True, layers=[1, -1], progress=True)
    assert passes.options(Output(), [1, -1]) == expected
    assert Passes().options(Output(quiet=True)) == RunOptions()


def test_options_of_the_model_become_those_of_loading():
    model = Model(backbone="tiny", device="cuda:1", precision="bf16", positions="bilinear")
    assert model.options() == RunOptions(device="cuda:1", precision="bf16", positions="bilinear")
    assert Model().options() == RunOptions()


def test_options_of_the_work_become_those_of_an_evaluation():
    work = Work(batch=5, device="cpu", precision="bf16", shard=7, threads=2, workers=3)
    expected = EvaluationOptions(batch=5, device="cpu", precision="bf16", shard=7, threads=2, progress=True)
    assert work.options(Output()) == expected


def test_options_of_decoding_become_those_of_a_segmenter():
    decoding = Decoding(size="96x64", batch=2, strict=True, windows="whole")
    options = decoding.options("bilinear", progress=False)
    assert options == RunOptions(size="96x64", batch=2, strict=True, positions="bilinear")
