"""`import attention_outliers as ao`: every public name, loaded when it is used, and hidden by nothing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import attention_outliers as ao
from segment.evaluation.options import EvaluationOptions

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("attention_outliers", "diagnostics", "figures", "segment")


def run(code: str, *, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh Python that runs the code, with a folder before all others on its path."""
    places = [str(place) for place in (first, ROOT) if place is not None]
    lines = f"import sys\nsys.path[:0] = {places!r}\n{code}"
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)


def test_importing_loads_no_torch_and_no_numpy():
    done = run(
        "import attention_outliers as ao\n"
        "dir(ao)\n"
        "sys.exit(str({'torch', 'numpy', 'pandas', 'matplotlib', 'diagnostics', 'segment'} & set(sys.modules)))"
    )
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize("name", ao.__all__)
def test_every_public_name_can_be_taken(name):
    module, attribute = ao._HOMES[name]
    assert getattr(ao, name) is getattr(importlib.import_module(module), attribute)
    assert name in dir(ao)


def test_what_the_plan_promises_is_there():
    promised = (
        "load_backbone probe open_run compare segment_one Segmenter classify evaluate reproduce view figure "
        "layer_table BACKBONES MEASURES DETECTORS PURIFIERS EDITS METHODS DATASETS PROTOCOLS FIGURES"
    )
    assert set(promised.split()) <= set(ao.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute `prob`"):
        ao.prob  # noqa: B018


def modules_of(package: str) -> list[str]:
    """The package and all packages below it."""
    path = importlib.import_module(package).__path__
    return [package, *(entry.name for entry in pkgutil.walk_packages(path, f"{package}.") if entry.ispkg)]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_hides_a_module(package):
    """`import diagnostics.probe as p` gives the module, whatever was imported before."""
    for name in modules_of(package):
        module = importlib.import_module(name)
        below = {entry.name for entry in pkgutil.iter_modules(module.__path__)}
        hidden = {module_name for module_name in below if inspect.isroutine(getattr(module, module_name, None))}
        assert not hidden, f"{name} has functions called as its modules: {hidden}"
        assert not below & set(getattr(module, "__all__", ())), f"{name} gives a module's name away"


@pytest.mark.parametrize("package", ["diagnostics", "figures", "segment"])
@pytest.mark.parametrize("regular", [True, False])
def test_another_package_of_the_name_is_named_with_its_file(package, regular, tmp_path):
    """Also a folder without __init__.py, such as that of `--plots figures/`, where it comes before ours."""
    (tmp_path / package).mkdir()
    if regular:
        (tmp_path / package / "__init__.py").touch()
        done = run("import attention_outliers", first=tmp_path)
        assert done.returncode == 1
        assert str(tmp_path / package / "__init__.py") in done.stderr
        assert f"ImportError: `import {package}` should give {ROOT / package}" in done.stderr
    else:  # a regular package wins over such a folder wherever it lies on the path
        assert run("import attention_outliers", first=tmp_path).returncode == 0


def test_a_package_that_was_imported_before_is_found_out_too(tmp_path):
    (tmp_path / "segment").mkdir()
    (tmp_path / "segment" / "__init__.py").touch()
    code = f"import segment\nsys.path.remove({str(tmp_path)!r})\nimport attention_outliers"
    done = run(code, first=tmp_path)
    assert f"it gives {tmp_path / 'segment' / '__init__.py'}" in done.stderr


# Functions that stand for commands


def test_a_figure_of_a_paper_is_drawn_and_what_is_lacking_is_said(tmp_path):
    scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    backbone = ao.load_backbone("pocket")
    assert ao.figure("sfp/supp-fig-1", backbone, scenes=2).axes
    path = tmp_path / "a.png"
    from PIL import Image

    Image.fromarray(scenes[0]).save(path)
    with pytest.raises(ValueError, match=r"needs labels; give labels=FOLDER, or leave `images` out"):
        ao.figure("sc-clip/fig-8", backbone, path, classes="cat, dog")
    with pytest.raises(ValueError, match="an image from 0 to 1; got 2"):
        ao.figure("sfp/supp-fig-1", backbone, scenes=2, number=2)
    with pytest.raises(ValueError, match="there is no figure `sfp/fig-99`"):
        ao.figure("sfp/fig-99", backbone)


def test_a_page_is_written_and_an_image_that_is_left_out_is_warned_of(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    scene = ao.Shapes(scenes=1)[0].image
    with pytest.warns(UserWarning, match=r"left out \(1\): .*bad.png"):
        page = ao.view("pocket:planted", [scene, tmp_path / "bad.png"], tmp_path / "page.html", layers=[8])
    assert page == tmp_path / "page.html"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_table_of_a_paper_is_a_frame_of_its_cells(tmp_path):
    """Ours are those of a run of the same method by `evaluate`; printed ones are those of the catalog."""
    options = {"rows": ["baseline", "resolve (1)"], "data_sets": ["voc21"], "limit": 2, "engine": ao.Local(workers=1)}
    cells = ao.reproduce("sc-clip/table-3", tmp_path, offline=True, **options)
    assert list(cells.columns) == ["row", "column", "ours", "printed", "difference", "complete", "reason"]
    experiment = ao.experiments()["sc-clip/table-3"].only(["baseline", "resolve (1)"])
    for cell in cells.itertuples():
        row = next(entry for entry in experiment.rows if entry.name == cell.row)
        assert cell.printed == row.printed[cell.column]
    assert cells["difference"].isna().all()  # drawn scenes
    numbers = cells.dropna(subset=["ours"])
    assert len(numbers)
    assert (numbers["reason"] == "").all()
    assert (cells[cells["ours"].isna()]["reason"] != "").all()
    del options["limit"]
    same = ao.reproduce("sc-clip/table-3", tmp_path, offline=True, options=EvaluationOptions(limit=2), **options)
    pd.testing.assert_frame_equal(same, cells)
    with pytest.raises(TypeError, match=r"`reproduce` has no option `shard`"):
        ao.reproduce("sc-clip/table-3", tmp_path, shard=2)
    with pytest.raises(ValueError, match="there is no data set `voc22`"):
        ao.reproduce("sc-clip/table-3", tmp_path, data_sets=["voc22"])
    with pytest.raises(ValueError, match="there is no table `sc-clip/table-33`"):
        ao.reproduce("sc-clip/table-33", tmp_path)
