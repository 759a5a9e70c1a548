"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diagnostics import BACKBONES, MEASURES
from diagnostics.probe import POOLED

ROOT = Path(__file__).resolve().parents[1]
MEASUREMENTS = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MEASURES)
def test_every_variable_is_documented_with_its_dimensions_and_unit(name):
    for variable in MEASURES.build(name).variables:
        assert f"| `{variable.name}` | {', '.join(variable.dims)} | {variable.units} |" in MEASUREMENTS


def test_every_documented_variable_exists():
    documented = set(re.findall(r"^\| `(\w+)` \| (?:image|layer)", MEASUREMENTS, flags=re.MULTILINE))
    known = {variable.name for name in MEASURES for variable in MEASURES.build(name).variables}
    assert documented == known | {variable.name for variable in POOLED}


def test_the_readme_names_every_family_of_backbones():
    for family in BACKBONES:
        assert f"`{family}" in README


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "pictures" / "a.png")
    monkeypatch.chdir(tmp_path)
    first, second, third = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(first.replace("open_clip:ViT-B-16/openai", "tiny:outliers=true"), names)
    import torch

    names["images"] = torch.zeros(1, 3, 224, 224)
    exec(second, names)
    assert names["tokens"].shape == (1, 197, 64)
    assert names["recorder"]["attention"].shape == (1, 2, 197, 197)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "photo.jpg")
    exec(third, names)
    assert names["labels"]["sc-clip"].shape == (40, 60)
