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


def input_of(name, dataset):
    """What the figure's first argument asks for by its name."""
    first = next(iter(inspect.signature(FIGURES[name]).parameters))
    return {"dataset": dataset, "measurement": dataset["entropy"]}[first]


@pytest.fixture(scope="module")
def module_probed(make):
    return make()


@pytest.fixture(scope="module", params=sorted(FIGURES))
def name(request):
    return request.param


def described(axes):
    """Whether something at these axes says what they show: a label, a title, or a text of the figure about them."""
    return bool(axes.get_xlabel() or axes.get_ylabel() or axes.get_title(loc="left") or axes.get_label())


class Drawn(NamedTuple):
    """A figure once drawn, with its input and the settings before and after."""

    figure: Figure
    before: tuple[xr.Dataset, dict[str, Any], list[str]]
    after: tuple[xr.Dataset, dict[str, Any], list[str]]


@pytest.fixture(scope="module")
def drawn(name, module_probed):
    """Each figure, drawn once for all the tests that only look at it."""
    before = (module_probed.copy(deep=True), dict(matplotlib.rcParams), list(matplotlib.colormaps))
    figure = FIGURES[name](input_of(name, module_probed))
    figure.canvas.draw()
    return Drawn(figure, before, (module_probed, dict(matplotlib.rcParams), list(matplotlib.colormaps)))


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


def test_a_figure_looks_the_same_whatever_the_settings_are(name, probed):
    plain = FIGURES[name](input_of(name, probed))
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9, "axes.facecolor": "black"}):
        odd = FIGURES[name](input_of(name, probed))
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
def test_a_figure_is_drawn_at_any_size(name, size, make):
    figure = FIGURES[name](input_of(name, make(**size)))
    figure.canvas.draw()
    assert figure.axes


@pytest.mark.filterwarnings("error")
def test_a_layer_without_values_leaves_a_gap_and_no_warning(name, probed):
    variables = [key for key, value in probed.items() if "layer" in value.dims and value.dtype.kind == "f"]
    for key in variables:
        probed[key] = probed[key].where(probed["layer"] != 5)
    FIGURES[name](input_of(name, probed)).canvas.draw()


@pytest.mark.filterwarnings("error")
def test_a_data_set_without_any_value_is_drawn_empty(name, probed):
    for key, value in probed.items():
        probed[key] = xr.full_like(value, np.nan, dtype=np.float32)
    FIGURES[name](input_of(name, probed)).canvas.draw()


def test_a_data_set_without_what_is_needed_is_refused_by_name(name, probed):
    if input_of(name, probed) is not probed:
        with pytest.raises(ValueError, match="lacks layer"):
            FIGURES[name](probed["entropy"].isel(layer=0))
        return
    with pytest.raises(ValueError, match=r"should get a data set with (one of )?`\w+`.*it has `unrelated`"):
        FIGURES[name](xr.Dataset({"unrelated": ("image", [1.0])}))


def test_a_data_set_without_pictures_is_refused(name, probed):
    if input_of(name, probed) is probed:
        with pytest.raises(ValueError, match="at least one picture"):
            FIGURES[name](probed.isel(image=slice(0)))
    else:
        # A measurement alone may be pooled over pictures: none are needed, and none give an empty curve.
        line = FIGURES[name](probed["entropy"].isel(image=slice(0))).axes[0].lines[0]
        assert np.isnan(line.get_ydata()).all()


def test_every_figure_says_what_it_shows(name):
    assert FIGURES.describe()[name].endswith((".", ":", "row"))
