"""The benchmarks that say which names run, and how near they are to their stock forward."""

from __future__ import annotations

import pytest
import torch

from benchmarks import coverage, parity
from benchmarks.coverage import Outcome, Row

SAMPLE = {
    "test_vit": "",
    "vit_base_patch16_dinov3": "",
    "eva02_tiny_patch14_224": "",
    "beit_base_patch16_224": "",
    "naflexvit_base_patch16_siglip": "",
    "vit_base_mci_224": "",
    "samvit_base_patch16": "`VisionTransformerSAM`: most of its blocks attend within windows, not among all tokens",
    "hiera_tiny_224": "`Hiera`: its grid of tokens shrinks between stages",
}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_name_runs_or_has_a_short_reason(name):
    assert coverage.timm_outcome(name) == Outcome(name, SAMPLE[name])


def test_image_towers_of_open_clip_run_whatever_their_text_tower_needs():
    assert coverage.image_tower_outcome("PE-Core-T-16-384") == Outcome("PE-Core-T-16-384")
    assert coverage.image_tower_outcome("roberta-ViT-B-32") == Outcome("roberta-ViT-B-32")
    assert "ModifiedResNet" in coverage.image_tower_outcome("RN50").reason
    with coverage.without_transformers():
        assert "transformers" in coverage.open_clip_outcome("roberta-ViT-B-32").reason


def test_a_row_counts_names_and_reasons():
    row = coverage.row_of(
        "some", [Outcome("a"), Outcome("b", "of stone"), Outcome("c", "of clay"), Outcome("d", "of clay")]
    )
    assert row == Row("some", 1, 4, "of clay (2); of stone (1)")
    assert coverage.table([row]).splitlines()[-1] == "| some | 1 | 4 | of clay (2); of stone (1) |"


def test_the_table_stands_between_its_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{coverage.START}\nold\n{coverage.END}\nafter\n", encoding="utf-8")
    coverage.write("new", page)
    coverage.write("newer", page)
    assert page.read_text(encoding="utf-8") == f"before\n{coverage.START}\nnewer\n{coverage.END}\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="coverage begins"):
        coverage.write("new", page)


def test_the_page_has_the_table_that_the_command_writes():
    content = coverage.PAGE.read_text(encoding="utf-8")
    written = content.split(coverage.START)[1].split(coverage.END)[0]
    for family in coverage.FAMILIES:
        assert f"| timm, {family} | " in written


@pytest.mark.parametrize("name", ["test_vit", "test_vit_relpos", "vit_dpwee_patch16_reg1_gap_256"])
def test_a_name_of_timm_is_near_its_stock_forward(name):
    result = parity.timm_parity(name)
    assert 0 <= max(result.native, result.other) <= 1e-6


@pytest.mark.parametrize("name", ["PE-Core-T-16-384", "ViT-M-32-alt"])
def test_an_image_tower_of_open_clip_is_near_its_stock_forward(name):
    result = parity.open_clip_parity(name)
    assert 0 <= max(result.native, result.other) <= 2e-6


def test_a_model_too_large_to_build_is_left_out_with_its_size(monkeypatch):
    monkeypatch.setattr(parity, "LARGEST", 1e5)
    assert parity.timm_parity("test_vit").skipped == "0 M weights with 2 blocks"
    assert "M weights with 2 blocks" in parity.open_clip_parity("ViT-M-32-alt").skipped


def test_a_difference_is_relative_to_the_largest_output_and_shapes_must_agree():
    assert parity.difference(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 4.0])) == 0.25
    with pytest.raises(ValueError, match="one shape"):
        parity.difference(torch.zeros(2), torch.zeros(3))
