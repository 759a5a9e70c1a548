"""What every figure promises, over the whole registry."""

import inspect
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from figures import FIGURES


def first_parameter(name):
    return next(iter(inspect.signature(FIGURES[name]).parameters))


def input_of(name, dataset):
    """What the figure's first argument asks for by its name, out of the data set made for it."""
    return dataset["entropy"] if first_parameter(name) == "measurement" else dataset


@pytest.fixture(scope="module", params=sorted(FIGURES))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def made(name, make, make_scored):
    """Makes data sets of what the figure draws: measurements, or the scores of detectors."""
    return {"dataset": make, "measurement": make, "scores": make_scored}[first_parameter(name)]


@pytest.fixture(scope="module")
def module_whole(made):
    return made()


@pytest.fixture
def whole(made):
    """A data set of its own for the test, to be changed."""
    return made()


def described(axes):
    """Whether something at these axes says what they show: a label, a title, or a text of the figure about them."""
    return bool(axes.get_xlabel() or axes.get_ylabel() or axes.get_title(loc="left") or axes.get_label())


class Drawn(NamedTuple):
    """A figure once drawn, with its input and the settings before and after."""

    figure: Figure
    before: tuple[xr.Dataset, dict[str, Any], list[str]]
    after: tuple[xr.Dataset, dict[str, Any], list[str]]


@pytest.fixture(scope="module")
def drawn(name, module_whole):
    """Each figure, drawn once for all the tests that only look at it."""
    before = (module_whole.copy(deep=True), dict(matplotlib.rcParams), list(matplotlib.colormaps))
    figure = FIGURES[name](input_of(name, module_whole))
    figure.canvas.draw()
    return Drawn(figure, before, (module_whole, dict(matplotlib.rcParams), list(matplotlib.colormaps)))


def test_a_figure_is_returned_with_every_axes_described(drawn):
    assert isinstance(drawn.figure, Figure)
    assert drawn.figure.axes
    assert all(described(axes) for axes in drawn.figure.axes)
    for axes in drawn.figure.axes:
        if axes.lines:
            assert axes.get_ylabel() or axes.get_title(loc="left")


def test_a_figure_opens_no_window_and_leaves_the_settings_alone(drawn):
    assert matplotlib.pyplot.get_fignums() == []
    assert drawn.before[1:] == drawn.after[1:]


def test_a_figure_does_not_change_its_input(drawn):
    xr.testing.assert_identical(drawn.before[0], drawn.after[0])


def test_a_figure_looks_the_same_whatever_the_settings_are(name, whole):
    plain = FIGURES[name](input_of(name, whole))
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9, "axes.facecolor": "black"}):
        odd = FIGURES[name](input_of(name, whole))
    for figure in (plain, odd):
        figure.set_dpi(50)
    plain.canvas.draw()
    odd.canvas.draw()
    assert np.array_equal(plain.canvas.buffer_rgba(), odd.canvas.buffer_rgba())


@pytest.mark.parametrize(
    "size",
    [
        {"layers": 1},
        {"images": 1, "layers": 1, "heads": 1, "grid": (1, 1), "channels": 12},
        {"layers": 32, "heads": 24, "grid": (2, 9)},
    ],
    ids=["one layer", "one of all", "deep and wide"],
)
def test_a_figure_is_drawn_at_any_size(name, size, made):
    figure = FIGURES[name](input_of(name, made(**size)))
    figure.canvas.draw()
    assert figure.axes


@pytest.mark.filterwarnings("error")
def test_a_layer_without_values_leaves_a_gap_and_no_warning(name, whole):
    variables = [key for key, value in whole.items() if "layer" in value.dims and value.dtype.kind == "f"]
    for key in variables:
        whole[key] = whole[key].where(whole["layer"] != 5)
    FIGURES[name](input_of(name, whole)).canvas.draw()


@pytest.mark.filterwarnings("error")
def test_a_data_set_without_any_value_is_drawn_empty(name, whole):
    for key, value in whole.items():
        mask = value.dtype == bool
        whole[key] = xr.full_like(value, False) if mask else xr.full_like(value, np.nan, dtype=np.float32)
    FIGURES[name](input_of(name, whole)).canvas.draw()


def test_a_data_set_without_what_is_needed_is_refused_by_name(name, whole):
    if input_of(name, whole) is not whole:
        with pytest.raises(ValueError, match="lacks layer"):
            FIGURES[name](whole["entropy"].isel(layer=0))
        return
    with pytest.raises(ValueError, match=r"should get a data set with (one of )?`\w+`.*it has `unrelated`"):
        FIGURES[name](xr.Dataset({"unrelated": ("image", [1.0])}))


def test_a_data_set_without_images_is_refused(name, whole):
    if input_of(name, whole) is whole:
        with pytest.raises(ValueError, match="at least one image"):
            FIGURES[name](whole.isel(image=slice(0)))
    else:
        # A measurement alone may be pooled over images: none are needed, and none give an empty curve.
        axes = FIGURES[name](whole["entropy"].isel(image=slice(0))).axes[0]
        assert all(np.isnan(line.get_ydata()).all() for line in axes.lines)


def test_every_figure_says_what_it_shows(name):
    assert FIGURES.describe()[name].endswith((".", ":", "row"))
