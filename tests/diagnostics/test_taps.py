"""Taps read and change what flows; recorders keep what was asked; layers count as the papers do."""

from __future__ import annotations

import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.registry import UnknownName
from diagnostics.taps import TAPS, EachLayer, Recorder, Recording, as_tap, chain, resolve_layer


def run(tap, depth=3, name="block_out"):
    tap = as_tap(tap)
    tap.start(depth)
    value = torch.zeros(1)
    for layer in range(1, depth + 1):
        value = tap(name, layer, value + layer)
    return value


@pytest.mark.parametrize("layer, resolved", [(0, 0), (1, 1), (12, 12), (-1, 12), (-12, 1), (-13, 0)])
def test_layers_count_from_either_end(layer, resolved):
    assert resolve_layer(layer, 12) == resolved


@pytest.mark.parametrize("layer", [13, -14])
def test_a_layer_outside_the_network_is_refused(layer):
    with pytest.raises(ValueError, match="0…12"):
        resolve_layer(layer, 12)


def test_a_recorder_changes_nothing_and_keeps_the_layers_asked_for():
    recorder = Recorder("block_out", layers=[-1, 1])
    assert run(recorder) == 6
    assert recorder.recording.layers("block_out") == [1, 3]
    assert recorder["block_out", -1] == 6
    assert recorder["block_out", 1] == 1


def test_a_recording_of_one_layer_reads_without_naming_it():
    recorder = Recorder("block_out", layers=[2])
    run(recorder)
    assert recorder["block_out"] == 3
    assert "block_out" in recorder.recording
    assert ("block_out", 3) not in recorder.recording


def test_reading_several_layers_without_naming_one_says_which_there_are():
    recorder = Recorder("block_out")
    run(recorder)
    with pytest.raises(KeyError, match=r"\[1, 2, 3\]"):
        recorder["block_out"]
    with pytest.raises(KeyError, match="not recorded"):
        recorder["attention", 1]
    assert torch.equal(recorder.recording.stack("block_out")[:, 0], torch.tensor([1.0, 3.0, 6.0]))
    assert recorder.recording.at(2)["block_out"] == 3


def test_each_pass_starts_a_new_recording():
    recorder = Recorder("block_out")
    run(recorder, depth=3)
    run(recorder, depth=2)
    assert recorder.recording.layers("block_out") == [1, 2]


def test_reductions_are_applied_before_values_are_kept():
    both = Recorder("block_out", "block_in", reduce={"block_out": lambda value: value * 10})
    run(both)
    run_in = as_tap(both)
    run_in("block_in", 1, torch.ones(1))
    assert both["block_out", 1] == 10
    assert both["block_in", 1] == 1


def test_chained_taps_see_what_the_one_before_returned():
    before, after = Recorder("block_out"), Recorder("block_out")
    run(chain(before, lambda name, layer, value: value * 2, after))
    assert before["block_out", 1] == 1
    assert after["block_out", 1] == 2
    assert before["block_out", 2] == 4


def test_a_function_that_returns_nothing_is_shown_what_to_return():
    with pytest.raises(TypeError, match=r"at `block_out` of layer 1 it returned NoneType"):
        run(lambda name, layer, value: None)


def test_the_attention_matrix_is_wanted_only_by_those_who_ask():
    assert not Recorder("block_out").wants("attention", 1)
    assert Recorder("attention", layers=[1]).wants("attention", 1)
    assert not chain(Recorder("block_out"), Recorder("query")).wants("attention", 1)
    assert as_tap(lambda name, layer, value: value).wants("attention", 1)
    assert not as_tap(None).wants("attention", 1)


def test_an_unknown_tap_is_refused_with_the_near_name():
    with pytest.raises(UnknownName, match="Did you mean `attention`"):
        Recorder("atention")


def test_the_table_of_taps_has_a_shape_and_a_meaning_for_each():
    names = list(TAPS)
    assert (names[0], names[-1]) == ("block_in", "block_out")
    assert all(place.shape.startswith(("(B,", "(1,")) and place.meaning for place in TAPS.values())


def test_an_empty_recording_says_so():
    with pytest.raises(KeyError, match="nothing"):
        Recording(3, {}).stack("block_out")


def test_each_layer_is_looked_at_once_in_order_with_what_it_needs_and_no_more():
    looks = []
    tap = EachLayer({3: ["query", "attention"], 0: [], 1: ["block_in"]}, lambda *look: looks.append(look))
    backbone, recorder = load_backbone("tiny"), Recorder("query", "attention", "block_in", "block_out")
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        changed = backbone.trunk(images, tap=chain(recorder, tap))
        assert torch.equal(changed, backbone.trunk(images, tap=recorder))
    assert [layer for layer, _ in looks] == [0, 1, 3]
    contents = [{name for name, _ in recording.values} for _, recording in looks]
    assert contents == [{"block_out"}, {"block_in", "block_out"}, {"query", "attention", "block_out"}]
    for layer, recording in looks:
        for name in contents[[0, 1, 3].index(layer)]:
            assert torch.equal(recording[name], recorder[name, layer])


def test_each_layer_holds_one_layer_at_a_time():
    held = []
    tap = EachLayer({1: ["normed"], 2: ["normed"]}, lambda layer, recording: held.append(list(recording.values)))
    run(chain(lambda name, layer, value: value, tap), name="normed")  # no block_out: nothing to look at
    assert held == []
    tap.start(3)
    for name, layer in [("normed", 1), ("block_out", 1), ("normed", 2), ("block_out", 2), ("normed", 3)]:
        tap(name, layer, torch.zeros(1))
    assert held == [[("normed", 1), ("block_out", 1)], [("normed", 2), ("block_out", 2)]]


def test_each_layer_asks_for_attention_only_where_it_is_needed():
    tap = EachLayer({2: ["attention"], 3: ["block_in"]}, lambda layer, recording: None)
    wanted = [(name, layer) for layer in range(5) for name in TAPS if tap.wants(name, layer)]
    assert wanted == [("attention", 2), ("block_out", 2), ("block_in", 3), ("block_out", 3)]
    with pytest.raises(UnknownName, match="Did you mean `attention`"):
        EachLayer({1: ["atention"]}, lambda layer, recording: None)
