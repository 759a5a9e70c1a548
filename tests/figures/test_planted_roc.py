import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import roc_auc_score

from figures import planted_roc


def legend(figure):
    """AUC as written, by detector."""
    words = [text.get_text().split("  ") for text in figure.axes[0].get_legend().get_texts()]
    return {name: area for area, name in words}


def curve(figure, name):
    (line,) = [line for line in figure.axes[0].lines if line.get_label().endswith(f"  {name}")]
    return line


def dot(figure, name):
    """What the detector's own rule reaches, found by the color of its curve."""
    color = curve(figure, name).get_color()
    (line,) = [line for line in figure.axes[0].lines if line.get_marker() == "o" and line.get_color() == color]
    return line.get_xydata()[0].tolist()


def test_the_area_is_that_of_scikit_learn_and_the_best_comes_first(scores):
    figure = planted_roc(scores, layer=8)
    areas = legend(figure)
    for spec in ("norm:threshold=30", "norm-topk", "lof", "random"):
        values = scores["score"].sel(detector=spec, layer=8).values
        assert areas[spec] == f"{roc_auc_score(scores['planted'].values.ravel(), values.ravel()):.3f}"
    assert areas["norm-topk"] == "1.000"
    numbers = [float(area) for name, area in areas.items() if name != "chance"]
    assert numbers == sorted(numbers, reverse=True)
    assert "6 of 105 patches in 3 images" in figure.axes[0].get_title(loc="left")


def test_the_dot_is_what_the_own_rule_reaches_and_lies_on_the_curve(scores):
    figure = planted_roc(scores, layer=8)
    real = scores["planted"].values
    for spec in ("norm:threshold=30", "lof", "random"):
        marked = scores["marked"].sel(detector=spec, layer=8).values
        assert dot(figure, spec) == pytest.approx([marked[~real].mean(), marked[real].mean()])
    assert dot(figure, "norm:threshold=30") == [0, 1]
    fpr, tpr = dot(figure, "lof")
    line = curve(figure, "lof").get_xydata()
    assert np.interp(fpr, *line.T) == pytest.approx(tpr)


def test_the_rate_of_false_alarms_has_a_log_scale_with_a_place_for_none_unless_set_otherwise(scores):
    ax = planted_roc(scores, layer=8).axes[0]
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlim() == (0, 1)
    assert ax.get_xticks().tolist() == pytest.approx([0, 0.1, 1])
    assert planted_roc(scores, layer=8, log=False).axes[0].get_xscale() == "linear"


def test_a_truth_of_its_own_may_change_with_the_layer(scores):
    high = scores["score"].sel(detector="lof") > 1.3
    assert legend(planted_roc(scores, high, layer=8))["lof"] == "1.000"
    assert legend(planted_roc(scores, high.sel(layer=3, drop=True), layer=8))["lof"] != "1.000"


def test_padding_counts_as_nothing(scores):
    scores["inside"][{"image": 0, "row": 4}] = False
    scores["score"] = scores["score"].where(scores["inside"])
    figure = planted_roc(scores, layer=8)
    inside, real = scores["inside"].values, scores["planted"].values
    values = scores["score"].sel(detector="random", layer=8).values
    assert legend(figure)["random"] == f"{roc_auc_score(real[inside], values[inside]):.3f}"
    assert "of 98 patches" in figure.axes[0].get_title(loc="left")


def test_nothing_to_find_or_a_missing_score_leaves_no_curve(scores):
    scores["score"][{"detector": 2}] = np.nan
    figure = planted_roc(scores, layer=8)
    assert legend(figure)["lof"] == "no AUC"
    assert curve(figure, "lof").get_xdata().size == 0
    nothing = planted_roc(scores, xr.zeros_like(scores["planted"]), layer=8)
    assert {area for name, area in legend(nothing).items() if name != "chance"} == {"no AUC"}


def test_a_detector_looks_the_same_at_every_layer(scores):
    looks = [
        {name: (curve(figure, name).get_color(), curve(figure, name).get_linestyle()) for name in legend(figure)}
        for figure in (planted_roc(scores, layer=layer) for layer in (3, 8, 11))
    ]
    assert looks[0] == looks[1] == looks[2]


def test_scores_without_planted_places_need_a_truth(scores):
    plain = scores.drop_vars("planted")
    with pytest.raises(ValueError, match="`planted`"):
        planted_roc(plain)
    planted_roc(plain, scores["planted"])
    with pytest.raises(ValueError, match=r"images and grid of the scores, \(3, 5, 7\); got \(2, 5, 7\)"):
        planted_roc(scores, scores["planted"].isel(image=slice(2)))
