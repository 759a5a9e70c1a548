"""`outliers figure … --from RUN` draws without a model, and names what a run lacks."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from attention_outliers.commands.main import app
from diagnostics.backbones import load_backbone
from diagnostics.studies.probe import probe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    store = tmp_path_factory.mktemp("run") / "run.zarr"
    images = [np.random.default_rng(place).integers(0, 255, (64, 64, 3)).astype(np.uint8) for place in range(2)]
    probe(load_backbone("tiny"), images, measures=["norms", "entropy"], out=store)
    return store


def draw(name, run, out):
    return CliRunner().invoke(app, ["figure", name, "--from", str(run), "--out", str(out)])


@pytest.mark.parametrize("name", ["layer-overview", "layer-curve:norm_ratio", "maps-over-layers", "clearclip/fig-4a"])
def test_figures_whose_numbers_are_there_are_drawn(name, run, tmp_path):
    done = draw(name, run, tmp_path)
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clearclip/fig-4b", "draws `peak`"),
        ("pca-maps", "pca"),
        ("sfp/supp-fig-1", "needs the model and the images"),
        ("layer-curves", "Did you mean `layer-curve`"),
        ("layer-curve", "layer-curve:VARIABLE"),
        ("score-maps", "draws scores of `outliers compare`"),
    ],
)
def test_what_a_run_lacks_is_named(name, message, run, tmp_path):
    done = draw(name, run, tmp_path)
    assert done.exit_code != 0
    assert message in str(done.exception)
