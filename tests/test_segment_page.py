"""What docs/segment.md shows runs, and its commands have the options that they are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from commands.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "segment.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(("a.jpg", "b.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "classes.txt").write_text("person, man, woman\ntv, screen\ndog")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert '"pocket"' in blocks[0]
    names: dict[str, object] = {}
    for block in blocks:
        # As many patches as SC-CLIP's detector asks for.
        exec(block.replace('"pocket"', '"tiny:patch=8"'), names)
    assert names["labels"]["sc-clip"].shape == (64, 96)
    assert names["same"] == names["words"]
    assert names["text"].owners.tolist() == [0, 0, 0, 1, 1, 2]
    assert names["numbers"].shape == (64, 96)
    assert sum(names["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert names["scores"].shape == (3, 64, 96)
    assert names["features"].shape[:3] == (1, *names["clip"].layout.grid)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_of_the_page_have_options_that_exist(command):
    group = typer.main.get_command(app)
    group.commands[command[0]].make_context(command[0], list(command[1:]))


def test_links_of_the_page_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)
