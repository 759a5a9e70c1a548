"""Every notebook runs on the offline default, and is stored without what it printed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from attention_outliers.papers.figures import PAPER_FIGURES

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
YOUR_OWN = "your-own"  # tag of a cell that shows how a part is written
# Those that walk through a paper: named after it.
PAPERS = [path for path in NOTEBOOKS if any(name.startswith(f"{path.stem}/") for name in PAPER_FIGURES)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_shows_something(path, tmp_path, monkeypatch):
    # Kernels run side by side with other tests: with more threads than cores they would wait for each other.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) >= 5
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_stored_empty_and_only_calls(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert code[0].source.startswith("BACKBONE =")
    for cell in code:
        if YOUR_OWN in cell.metadata.get("tags", ()):
            assert path.stem == "your_own_detector"  # the fifteen lines that the notebook is about
            assert len([line for line in cell.source.splitlines() if line.strip()]) <= 15
            continue
        assert "def " not in cell.source
        assert "for " not in cell.source


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_a_paper_is_walked_through_figure_by_figure_with_one_setting(path):
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert code[0] == 'BACKBONE = "pocket"'
    drawn = list(dict.fromkeys(re.findall(r'\.draw\("([\w-]+)"', "\n".join(code))))
    assert sorted(drawn) == sorted(name.split("/")[1] for name in PAPER_FIGURES if name.startswith(f"{path.stem}/"))


def test_every_paper_has_its_notebook():
    papers = {name.split("/")[0] for name in PAPER_FIGURES} - {"ours"}
    assert {path.stem for path in PAPERS} == papers
