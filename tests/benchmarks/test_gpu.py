"""The check of a GPU, tried where there is none: the CPU against itself, faults put in, and what it says and writes."""

import math

import open_clip
import pytest
import torch

import diagnostics
from benchmarks import gpu, gpu_parts
from benchmarks.gpu import as_markdown, main, no_device, run, write_page
from benchmarks.gpu_parts import Row, compared, difference, scaled
from diagnostics.backbones.openclip import clip_backbone

MARKS = f"# Page\n\n{gpu.BEGIN}\nold\n{gpu.END}\n\nAfter.\n"


def test_without_a_gpu_it_says_why_and_changes_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    page = tmp_path / "gpu.md"
    page.write_text(MARKS)
    assert main(["--page", str(page)]) == 0
    assert "skipped: torch sees 0 CUDA devices here, and `cuda:0` is none of them." in capsys.readouterr().out
    assert page.read_text() == MARKS
    assert "is no CUDA device" in no_device("meta")
    assert no_device("cpu") == ""


def test_the_cpu_equals_itself_and_the_table_is_written(tmp_path, monkeypatch):
    assert {"tiny", "tiny:kind=rotary", "pocket"} <= set(gpu_parts.family_specs())
    monkeypatch.setattr(gpu_parts, "family_specs", lambda: ["tiny:kind=rotary"])
    page = tmp_path / "gpu.md"
    page.write_text(MARKS)
    assert main(["--device", "cpu", "--only", "families", "memory", "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Page\n\n")
    assert text.endswith("\n\nAfter.\n")
    assert "old" not in text
    assert "| families | `tiny:kind=rotary` | 0.0e+00 | 0.0e+00 |  |" in text
    assert "skipped: only a GPU has a limit that can be set" in text


def test_a_difference_on_the_device_fails_and_ends_with_1(monkeypatch, capsys):
    def two_rows(device):
        yield Row("families", "a", "1.0e-05", "1.0e-02")
        yield compared("families", "b", "tiny:depth=1", device, lambda backbone: torch.ones(3) * next(values), 1e-4)

    values = iter([1.0, 1.001, 1.0, 1.001])
    monkeypatch.setitem(gpu.PARTS, "families", two_rows)
    assert main(["--device", "cpu", "--only", "families"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_differences_are_relative_and_a_new_nan_is_infinite():
    assert difference(torch.tensor([1.0, 4.1]), torch.tensor([1.0, 4.0])) == pytest.approx(0.025)
    assert difference(torch.tensor([math.nan, 4.0]), torch.tensor([math.nan, 4.0])) == 0
    assert difference(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 4.0])) == math.inf
    assert difference(torch.ones(2), torch.ones(3)) == math.inf
    assert difference(torch.zeros(2), torch.zeros(2)) == 0
    assert scaled(torch.tensor([[0.0, -8.0], [2.0, math.inf]])).tolist() == [0, -1, 0.25, math.inf]


def test_an_error_is_a_row_and_the_parts_after_it_run(monkeypatch):
    def broken(device):
        yield Row("families", "a")
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setitem(gpu.PARTS, "families", broken)
    monkeypatch.setitem(gpu.PARTS, "measures", lambda device: iter([Row("measures", device)]))
    report = run("cpu", parts=["families", "measures"], seconds=100)
    assert [(row.what, row.failed) for row in report.rows] == [("a", False), ("all", True), ("cpu", False)]
    assert report.rows[1].note == "RuntimeError: no kernel image"
    assert "1 of 3 checks failed" in as_markdown(report)
    assert "| families | all |  |  | **failed** RuntimeError: no kernel image |" in as_markdown(report)


def test_when_the_time_is_over_what_is_left_is_named():
    clock = iter([0.0, 1.0, 50.0, 50.0]).__next__
    report = run("cpu", parts=["memory", "times"], seconds=10, clock=clock)
    assert [row.note[:12] for row in report.rows] == ["skipped: onl", "not run: the", "not run: the"]


def test_convolutions_have_the_precision_of_fp32_only_during_the_check(monkeypatch):
    during = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setitem(gpu.PARTS, "memory", lambda _: iter([during.append(torch.backends.cudnn.allow_tf32)][:0]))
    run("cpu", parts=["memory"], seconds=10)
    assert during == [False]
    assert torch.backends.cudnn.allow_tf32


def test_a_page_without_its_marks_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(ValueError, match="should hold `<!-- table: begin -->`"):
        write_page(run("cpu", parts=[], seconds=1), tmp_path / "page.md")


def test_every_part_of_the_page_is_a_part_and_its_table_can_be_written(tmp_path):
    text = gpu.PAGE.read_text()
    assert all(name in text for name in gpu.PARTS)
    (tmp_path / "gpu.md").write_text(text)
    write_page(run("cpu", parts=[], seconds=1), tmp_path / "gpu.md")


def test_a_sample_of_each_parity_part_equals_itself(monkeypatch):
    monkeypatch.setattr(gpu_parts, "MEASURES", _Few(gpu_parts.MEASURES, "norms"))
    monkeypatch.setattr(gpu_parts, "DETECTORS", _Few(gpu_parts.DETECTORS, "relative-norm"))
    monkeypatch.setattr(gpu_parts, "METHODS", _Few(gpu_parts.METHODS, "clearclip", "proxyclip"))
    report = run("cpu", parts=["measures", "detectors", "methods"], seconds=500)
    assert [row.what for row in report.rows] == ["`norms`", "`relative-norm`", "`clearclip`", "`proxyclip`"]
    assert all((row.fp32, row.bf16, row.failed) == ("0.0e+00", "0.0e+00", False) for row in report.rows)


class _Few:
    """A registry of a few of another's names."""

    def __init__(self, registry, *names):
        self.registry, self.names = registry, names

    def __iter__(self):
        return iter(self.names)

    def __getitem__(self, name):
        return self.registry[name]

    def build(self, spec):
        return self.registry.build(spec)


@pytest.mark.parametrize("counts", [(0.25, 0.25), (0.25, 0.24)])
def test_two_workers_are_held_to_one(monkeypatch, counts):
    results = iter(counts)
    cell = type("Cell", (), {})

    def scored(*_, engine, device, **__):
        assert device == "cuda:0"
        made = cell()
        made.miou = next(results)
        return type("Result", (), {"cells": [made]})

    monkeypatch.setattr(gpu_parts, "evaluate", scored)
    (row,) = gpu_parts.workers("cuda:0")
    assert row.failed == (counts[0] != counts[1])


@pytest.fixture
def small_clip():
    vision = {"layers": 12, "width": 48, "head_width": 24, "patch_size": 32, "image_size": 224}
    model = open_clip.CLIP(16, vision_cfg=vision, text_cfg={"layers": 1, "width": 8, "heads": 2}).eval()
    half = (0.5,) * 3
    return clip_backbone(model, spec="small", mean=half, std=half, make_tokenizer=open_clip.SimpleTokenizer)


def test_times_are_ratios_to_the_stock_forward_in_half_precision_too(small_clip):
    rows = list(gpu_parts.ratios_of(small_clip.to(dtype=torch.bfloat16), "bf16", batch=2, rounds=1, images=1))
    assert rows[0].what == "stock forward"
    assert (rows[0].fp32, rows[0].bf16) == ("", "1.000")
    assert {row.what.split()[0] for row in rows} >= {"trunk,", "evaluate"}
    assert all(float(row.bf16) > 0 and row.note.endswith(" ms an image") for row in rows)


@pytest.mark.parametrize("halved", [True, False])
def test_a_batch_that_is_too_large_has_to_run_out_of_memory(monkeypatch, small_clip, halved):
    """The CUDA of the check is played: a limit, and a probe that is refused a large batch."""
    state = {"num_ooms": 0, "fraction": 1.0}
    measured = diagnostics.probe

    def probe(backbone, images, *, batch, **options):
        if batch > gpu_parts.FEW and halved:
            assert state["fraction"] < 1
            state["num_ooms"] += 1
        return measured(backbone, images[:2], batch=batch, size="64", **options)

    played = {
        "empty_cache": lambda: None,
        "get_device_properties": lambda _: type("Card", (), {"total_memory": 2**32}),
        "memory_reserved": lambda _: 2**28,
        "max_memory_reserved": lambda _: 2**28 + 2**26,
        "reset_peak_memory_stats": lambda _: None,
        "memory_stats": lambda _: dict(state),
        "set_per_process_memory_fraction": lambda fraction, _: state.update(fraction=fraction),
    }
    for name, function in played.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(diagnostics, "probe", probe)
    monkeypatch.setattr("benchmarks.ratios.random_clip", lambda: type("Model", (), {"to": lambda *_: small_clip})())
    (row,) = gpu_parts.memory("cuda:0")
    assert row.failed != halved
    assert row.fp32 == "0.0e+00"
    assert state["fraction"] == 1
