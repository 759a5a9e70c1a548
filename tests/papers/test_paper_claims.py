"""What figures claim, in numbers: worked out by hand on small maps, and had for every figure on a tiny backbone."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score

from attention_outliers.papers.claim import NO_RULE, ImageMean, verdict
from attention_outliers.papers.claim_maps import (
    background_share,
    first_above,
    hottest,
    labels_of,
    likeness,
    mean_over,
    on_objects,
    rank_correlation,
    same_class_auc,
    stripe_contrast,
)
from attention_outliers.papers.claim_scores import method_scores
from attention_outliers.papers.claims import CLAIMS, Check, claim_lines, claims_table
from attention_outliers.papers.clearclip.claims import peak_channel_share
from attention_outliers.papers.cliptrase import claims as cliptrase
from attention_outliers.papers.experiment_list import experiments
from attention_outliers.papers.figures import PAPER_FIGURES
from attention_outliers.papers.inputs import scenes_of
from attention_outliers.papers.plan import Selection
from attention_outliers.papers.report import PaperReport, gather, paper_report
from attention_outliers.papers.reproduce import Reproduction
from attention_outliers.papers.sc_clip.figures import steps
from attention_outliers.papers.side_by_side import side_by_side
from attention_outliers.papers.table_claims import TableClaim
from diagnostics import load_backbone
from diagnostics.measures import UNLABELED
from segment.datasets.shapes import NAMES
from segment.evaluation.metrics import paired_difference
from segment.text.features import text_features


@pytest.fixture(scope="module")
def inputs():
    backbone = load_backbone("tiny:outliers=true,size=96")
    text = text_features(backbone, list(NAMES), "plain", progress=False)
    return replace(scenes_of(2, backbone), text=text)


@pytest.fixture(scope="module")
def bare(inputs):
    return replace(inputs, labels=None, text=None)


def test_maps_that_are_the_same_have_a_likeness_of_1_and_opposite_ones_of_minus_1():
    row = torch.tensor([0.1, 0.2, 0.7])
    assert likeness(torch.stack([row, 3 * row + 1, row])) == pytest.approx(1)
    assert likeness(torch.stack([row, -row])) == pytest.approx(-1)
    # Correlations of the three pairs: 1, -1, -1.
    assert likeness(torch.stack([row, row, -row])) == pytest.approx(-1 / 3)
    assert math.isnan(likeness(row[None]))


def test_stripe_contrast_is_the_largest_over_the_median_column_mean():
    between = torch.tensor([[0.1, 0.6, 0.3], [0.3, 0.6, 0.1], [0.2, 0.6, 0.2]])
    assert stripe_contrast(between) == pytest.approx(0.6 / 0.2)
    assert hottest(between.mean(dim=0), 1).tolist() == [1]


def test_the_area_of_same_class_counts_ordered_pairs_and_leaves_out_the_patch_itself_and_the_unlabeled():
    labels = torch.tensor([0, 0, 1, -1])
    matrix = torch.zeros(4, 4)
    matrix[0, 1], matrix[1, 0] = 0.9, 0.2  # same class
    matrix[0, 2], matrix[2, 0], matrix[1, 2], matrix[2, 1] = 0.1, 0.3, 0.1, 0.1  # different ones
    matrix[3], matrix.diagonal()[:] = 5.0, 7.0
    # 0.9 is above all four, 0.2 above three of them: 7 of 8 pairs of pairs.
    assert same_class_auc(matrix, labels) == pytest.approx(7 / 8)
    assert math.isnan(same_class_auc(matrix, torch.zeros(4, dtype=torch.long)))


def test_the_first_layer_above_a_line_is_nan_where_there_is_none():
    assert first_above({3: 9.0, 1: 0.0, 2: 6.0}, 5.0) == 2
    assert math.isnan(first_above({1: 0.0}, 5.0))


def test_a_mean_over_images_leaves_out_those_that_cannot_be_measured(inputs):
    assert mean_over(inputs, lambda number: [float("nan"), 3.0][number]) == 3.0
    assert math.isnan(mean_over(inputs, lambda number: float("nan")))


def test_nothing_is_said_of_numbers_that_could_not_be_had():
    assert verdict(True, 1.0, float("nan")) is None
    assert verdict(False, 1.0) is False


def test_numbers_of_images_that_differ_by_more_than_what_is_claimed_cannot_tell():
    apart, near = ImageMean([3.0, 4.0, 5.0]), ImageMean([1.0, 2.5, 2.9])  # differences 2, 1.5, 2.1
    assert verdict(apart > near, apart, near) is True
    assert verdict(apart < near, apart, near) is False
    mixed = ImageMean([1.0, 6.0, 4.9])  # 2, -2, 0.1: mean 0.03, standard error 1.15
    assert verdict(apart > mixed, apart, mixed) is None
    # A line: 3, 4, 5 have mean 4 and standard error 0.577, so 2.9 is two of them away and 3 is not.
    assert verdict(apart > 2.8, apart, line=2.8) is True
    assert verdict(apart > 3.0, apart, line=3.0) is None
    gap = ImageMean([float("nan"), 4.0, 5.0])
    assert gap == 4.5
    assert verdict(gap > near, gap, near) is True  # differences 1.5 and 2.1
    assert verdict(ImageMean([1.0]) > 0.9, ImageMean([1.0]), line=0.9) is True  # one image has no error
    assert verdict(True, 2.0, 1.0) is True


def test_methods_whose_difference_other_images_could_turn_cannot_tell(inputs):
    view = replace(inputs)
    view.scored(["clip", "maskclip"])
    rows, spec = view.resamples, view.backbone.spec
    interval, _ = paired_difference(rows[spec, "clip"], rows[spec, "maskclip"])
    assert view.are_apart("clip", "maskclip") == (not interval.low <= 0 <= interval.high)
    assert not view.are_apart("clip", "clip")
    (first, second) = method_scores(view, ("clip", "maskclip"), "sc-clip/table-1-b16")
    assert first.holds == NO_RULE
    assert (second.holds is None) == (not view.are_apart("clip", "maskclip"))


def test_a_claim_of_a_table_compares_rows_or_columns_wherever_both_have_numbers():
    numbers = {("a", "x"): 3.0, ("a", "y"): 1.0, ("b", "x"): 2.0, ("b", "y"): 1.5, ("c", "x"): 0.5, ("c", "z"): 9.0}
    places = [(row, column) for row in "abcd" for column in "xyz"]
    assert TableClaim(says="", above="a", below=("c",)).verdict(numbers, places) == "as claimed (above in 1 of 1)"
    assert TableClaim(says="", above="a", below=("b", "c")).verdict(numbers, places) == "cannot tell (above in 2 of 3)"
    assert TableClaim(says="", above="c", below=("a",)).verdict(numbers, places) == "not as claimed (above in 0 of 1)"
    assert TableClaim(says="", above="a", below=("d",)).verdict(numbers, places) == "cannot tell (no numbers)"
    columns = TableClaim(says="", above="x", below=("y",), by="column")
    assert columns.verdict(numbers, places) == "as claimed (above in 2 of 2)"


def test_claims_of_tables_name_their_rows_and_columns_and_stand_below_the_table():
    count = 0
    for table in experiments().values():
        for claim in table.claims:
            names = {item.name for item in (table.rows if claim.by == "row" else table.columns)}
            assert {claim.above, *claim.below} <= names
            count += 1
    assert count >= 20
    table = experiments()["sfp/pamr"]
    reproduced = Reproduction(experiment=table, choice=Selection(offline=True))
    reproduced.ours.update({("SFP", "VOC20"): 3.0, ("SFP", "VOC20 with PAMR"): 4.0, ("SCLIP", "VOC20"): 5.0})
    notes = side_by_side(reproduced).notes
    assert "the paper: PAMR helps each method; ours: as claimed (above in 1 of 1)" in notes
    best = next(note for note in notes if note.startswith("the paper: SFP is the best"))
    assert best.endswith("not as claimed (above in 0 of 1)")


def test_methods_are_as_claimed_where_their_order_is_the_printed_one():
    scores = {"clip": 30.0, "sclip": 20.0, "clearclip": 25.0, "sc-clip": 1.0, "sfp": 60.0}
    stand_in = SimpleNamespace(
        labels=(),
        text=object(),
        scored=lambda methods: {method: scores[method] for method in methods},
        are_apart=lambda first, second: True,
    )
    claims = method_scores(stand_in, tuple(scores), "sfp/table-1")
    # SFP prints 49.4, 81.5, 80.9, nothing and 84.5.
    assert [claim.holds for claim in claims] == [NO_RULE, False, False, NO_RULE, True]
    assert claims[0].paper == "49.4 (VOC20)"
    assert claims[3].paper == ""


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_every_claim_has_numbers_on_labeled_scenes(name, inputs):
    assert name in PAPER_FIGURES
    claims = CLAIMS[name](inputs)
    assert claims
    assert len({claim.measured for claim in claims}) == len(claims)
    assert all(isinstance(claim.value, str) or math.isfinite(claim.value) or not claim.holds for claim in claims)


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_without_labels_and_words_a_claim_is_short_or_empty_but_no_error(name, bare):
    assert not [claim for claim in CLAIMS[name](bare) if "mIoU" in claim.measured or "AUC" in claim.measured]


def test_outliers_in_the_weights_are_seen_in_the_numbers(bare):
    plain = replace(bare, backbone=load_backbone("tiny:size=96"))
    ratio, ordinary = (CLAIMS["clearclip/fig-1"](drawn_from)[0] for drawn_from in (bare, plain))
    assert ratio.measured == ordinary.measured == "largest over median patch norm, X_res"
    assert ratio.value > 2 * ordinary.value


def test_a_table_has_a_pair_of_columns_for_each_backbone(monkeypatch, inputs, bare):
    monkeypatch.setitem(
        CLAIMS,
        "clearclip/fig-2",
        lambda figure_inputs: [
            Check(measured="a", paper="near 1", value=0.98765, holds=True),
            *([Check(measured="b", value="q-q")] if figure_inputs.text is not None else []),
            Check(measured="c", paper="more", value=1.0, holds=None),
        ],
    )
    other = replace(bare, backbone=load_backbone("tiny:seed=1,size=96"))
    table = claims_table("clearclip/fig-2", inputs, other)
    first, second = inputs.backbone.spec, other.backbone.spec
    assert list(table.columns) == [
        ("", "the paper"), (first, "seen"), (first, "as claimed"), (second, "seen"), (second, "as claimed"),
    ]  # fmt: skip
    assert table.loc["a"].tolist() == ["near 1", 0.9877, "yes", 0.9877, "yes"]
    assert table.loc["b"].tolist() == ["", "q-q", "", "", ""]
    assert table.loc["c"].tolist() == ["more", 1.0, "cannot tell", 1.0, "cannot tell"]


def test_a_walk_draws_and_counts_from_scenes_that_it_makes_itself():
    tour = paper_report("sfp", "tiny", scenes=2, templates="plain")
    assert tour.beside is None
    assert tour.inputs.text is not None
    assert isinstance(tour.draw("main-fig-5"), Figure)
    assert isinstance(tour.claims("main-fig-5"), pd.DataFrame)
    assert tour.draw("main-fig-5", beside=True) == "sfp/main-fig-5 is not drawn: no backbone stands beside."


def test_a_walk_over_images_says_what_a_figure_lacks(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    tour = paper_report("clearclip", "tiny", images=tmp_path)
    assert "it needs labels and words" in tour.draw("fig-3")
    assert "may need labels and words" in tour.claims("fig-3")


def test_words_number_the_labels_of_given_images(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "images" / "a.png")
    Image.new("L", (64, 64), 1).save(tmp_path / "masks" / "a.png")
    claims = gather(load_backbone("tiny"), tmp_path / "images", labels=tmp_path / "masks", classes="cat, dog",
                   templates="plain")  # fmt: skip
    assert claims.text.names == ("cat", "dog")
    assert claims.labels[0].max() == 1


def test_a_figure_about_one_image_is_drawn_for_the_example_and_one_of_several_from_the_start(monkeypatch, inputs):
    drawn = {}

    def note(name):
        return lambda figure_inputs: drawn.setdefault(name, figure_inputs.names)

    for name in ("sfp/main-fig-1", "sfp/supp-fig-2"):
        monkeypatch.setitem(PAPER_FIGURES, name, replace(PAPER_FIGURES[name], draw=note(name)))
    tour = PaperReport(paper="sfp", inputs=inputs, example=3)  # of two images: the second
    tour.draw("main-fig-1")
    tour.draw("supp-fig-2")
    named = f"{inputs.names[1]}, {inputs.model}"
    assert drawn == {"sfp/main-fig-1": (named,), "sfp/supp-fig-2": inputs.names}
    drawn.clear()
    tour.draw("supp-fig-2", start=1)
    assert drawn["sfp/supp-fig-2"] == inputs.names[::-1]


def test_attention_on_objects_is_their_share_of_it_over_their_share_of_the_labeled_patches():
    labels = torch.tensor([0, 0, 0, 1, 2, -1])  # class 0 is the background, the last patch has no label
    weights = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.1, 0.2])
    assert on_objects(weights, labels) == pytest.approx((0.4 / 0.8) / (2 / 5))
    assert math.isnan(on_objects(weights, torch.zeros(6, dtype=torch.long)))
    assert math.isnan(on_objects(weights, torch.full((6,), -1)))


def test_a_rank_correlation_is_that_of_the_order():
    assert rank_correlation(np.array([1, 5, 9]), np.array([2, 3, 100])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 5, 9, 11]), np.array([4, 3, 2, 1])) == pytest.approx(-1)
    assert math.isnan(rank_correlation(np.array([1, 1, 1]), np.array([1, 2, 3])))


def test_the_background_is_the_largest_class_of_an_image(inputs):
    labels = np.zeros_like(inputs.labels[0])
    labels[: labels.shape[0] // 4] = 3  # a quarter of the rows, whole patches
    painted = replace(inputs, labels=(labels, np.full_like(labels, 255)))
    assert background_share(painted, 0) == pytest.approx(0.75, abs=0.1)
    assert math.isnan(background_share(painted, 1))
    assert math.isnan(background_share(replace(inputs, labels=None), 0))


def test_the_peak_channel_is_counted_patch_by_patch(inputs):
    last = inputs.backbone.depth
    tokens = inputs.record("block_in", layers=[last], number=1)["block_in", last][0, inputs.layout.prefix :]
    counts = {}
    for patch in tokens:
        channel = max(range(len(patch)), key=lambda place, patch=patch: abs(float(patch[place])))
        counts[channel] = counts.get(channel, 0) + 1
    assert peak_channel_share(inputs, 1) == pytest.approx(max(counts.values()) / len(tokens))


def test_global_patches_are_counted_against_the_background(monkeypatch, inputs):
    three = replace(inputs, images=inputs.images[:1] * 3, names=("a", "b", "c"), labels=inputs.labels[:1] * 3)
    counts, shares = {0: 2, 1: 5, 2: 9}, {0: 0.2, 1: 0.4, 2: 0.9}
    monkeypatch.setattr(cliptrase, "global_patches", lambda _, number: torch.arange(20) < counts[number])
    monkeypatch.setattr(cliptrase, "background_share", lambda _, number: shares[number])
    number, order = cliptrase.fig_9(three)[-2:]
    assert number.value == pytest.approx(16 / 3)
    assert order.value == pytest.approx(1)
    assert order.holds is True
    monkeypatch.setattr(cliptrase, "background_share", lambda _, number: -shares[number])
    assert cliptrase.fig_9(three)[-1].holds is False
    assert cliptrase.fig_9(replace(three, images=three.images[:2]))[-1].holds is None  # two images are no order


def test_lines_of_claims_have_the_number_the_paper_and_the_verdict(monkeypatch, inputs):
    monkeypatch.setitem(
        CLAIMS,
        "clearclip/fig-2",
        lambda _: [
            Check(measured="a", paper="near 1", value=0.98765, holds=False),
            Check(measured="b", value="q-q"),
            Check(measured="c", paper="more", value=1.0, holds=None),
        ],
    )
    assert claim_lines("clearclip/fig-2", inputs) == [
        "the paper: mIoU follows the norm of X_attn",
        f"seen with {inputs.model}, 2 images:",
        "  a: 0.9877; the paper: near 1 (not as claimed)",
        "  b: q-q",
        "  c: 1; the paper: more (cannot tell)",
    ]
    lines = claim_lines("clearclip/fig-3", replace(inputs, text=None))
    assert lines[0].startswith("the paper: X_res is near 0")
    assert "--classes" in lines[1]


def test_a_second_backbone_has_its_own_lines(monkeypatch, inputs):
    second = load_backbone("tiny:seed=3,size=96")
    monkeypatch.setitem(
        CLAIMS,
        "clearclip/fig-2",
        lambda view: [Check(measured=view.backbone.spec, value=float(view.text is None), holds=view.second is None)],
    )
    lines = claim_lines("clearclip/fig-2", replace(inputs, second=second))
    names = replace(inputs, second=second).models
    assert lines[1:] == [
        f"seen with {names[inputs.backbone.spec]}, 2 images:",
        f"  {inputs.backbone.spec}: 0 (as claimed)",
        f"seen with {names[second.spec]}, 2 images:",
        f"  {second.spec}: 1 (as claimed)",  # the words were read by the first one's text tower
    ]
    monkeypatch.setitem(CLAIMS, "clearclip/fig-2", lambda view: [])
    lines = claim_lines("clearclip/fig-2", replace(inputs, second=second))
    assert [line.partition(": its numbers need")[0] for line in lines[1:]] == [
        f"seen with {name}" for name in names.values()
    ]


@pytest.fixture(scope="module")
def pocket_scenes():
    return scenes_of(3, load_backbone("pocket"))


def test_the_steps_of_sc_clips_figure_8_have_the_auc_of_all_pairs(pocket_scenes):
    names, same = list(steps()), []
    cosines: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number in range(3):
        labels = labels_of(pocket_scenes, number).numpy()
        pairs = np.triu_indices(len(labels), 1)
        known = (labels != UNLABELED)[pairs[0]] & (labels != UNLABELED)[pairs[1]]
        same.append((labels[pairs[0]] == labels[pairs[1]])[known])
        for name, encoding in zip(names, pocket_scenes.encoded(*steps().values(), number=number), strict=True):
            patches = encoding.patches[0].double().numpy()
            unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
            cosines[name].append((unit @ unit.T)[pairs][known])
    exact = [roc_auc_score(np.concatenate(same), np.concatenate(cosines[name])) for name in names]
    checks = {
        check.measured.removeprefix("same-class AUC: "): check for check in CLAIMS["sc-clip/fig-8"](pocket_scenes)
    }
    assert [checks[name].value for name in names] == pytest.approx(exact, abs=1e-4)
    # Each is held against the step before it; the first against the last layer.
    # What the AUCs of the three images do not decide can't be told.
    alone = [np.array([roc_auc_score(same[number], cosines[name][number]) for name in names]) for number in range(3)]
    for place, (before, after) in enumerate(pairwise(exact)):
        apart = np.array([area[place + 1] - area[place] for area in alone])
        decided = abs(apart.mean()) >= 2 * apart.std(ddof=1) / 3**0.5
        assert checks[names[place + 1]].holds is (after > before if decided else None)
