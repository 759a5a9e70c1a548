"""Register neurons: a neuron planted in the weights is found, and tokens are scored by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.detectors.register_neuron import RegisterNeuron
from diagnostics.layout import Grid, Layout
from diagnostics.measures.norms import token_norms
from diagnostics.taps import Recorder

NEURON = (6, 0)  # tiny:outliers=true has one hidden unit that writes its outliers: unit 0 of block 6


@pytest.fixture(scope="module")
def outlying():
    return load_backbone("tiny:outliers=true")


@pytest.fixture(scope="module")
def images():
    """Three images of 64 x 96 made of smooth shades, on which `tiny:outliers=true` has outliers."""
    coarse = torch.randn(3, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (224, 160), mode="bilinear")


@pytest.fixture(scope="module")
def recorder(outlying, images):
    recorder = Recorder("ffn_hidden", "block_out")
    outlying.trunk(images, tap=recorder)
    return recorder


def test_the_planted_neuron_is_the_best_of_its_layer_and_of_the_first_half(outlying, images):
    assert RegisterNeuron().fitted(outlying, images, 6).neurons[0] == NEURON
    released = RegisterNeuron(scope="model", contrast=False).fitted(outlying, images, 6)
    assert released.neurons[0] == NEURON
    assert len(released.neurons) == 10
    assert all(1 <= layer <= 6 for layer, _ in released.neurons)


def test_tokens_are_scored_by_the_planted_neuron(outlying, images, recorder):
    layout = outlying.layout(images)
    detector = RegisterNeuron(top_k=1).fitted(outlying, images, 6)
    outliers = detector(recorder.recording.at(6), layout)
    norms = token_norms(layout.patches(recorder["block_out", 6]))
    truth = norms > 3 * norms.median(dim=1, keepdim=True).values
    assert truth.any(dim=1).all()
    assert outliers.scores[truth].min() > 4 * outliers.scores[~truth].max()
    # Outliers of this model differ by 15 times in size; the default takes those of at least half the usual one.
    assert outliers.mask.sum() >= truth.sum() / 2
    assert truth[outliers.mask].all()


def test_mean_score_over_outliers_equals_a_slow_loop(outlying, images, recorder):
    layout, expected, used = outlying.layout(images), 0, 0
    for number in range(3):
        norms = token_norms(layout.patches(recorder["block_out", 11]))[number]
        where = norms > 40
        hidden = layout.patches(recorder["ffn_hidden", 6])[number].abs()
        if where.any():
            expected, used = expected + hidden[where].mean(0), used + 1
    ranked = (expected / used).argsort(descending=True)[:5].tolist()
    detector = RegisterNeuron(top_k=5, contrast=False, norm=40.0, detect_at=11).fitted(outlying, images, 6)
    assert [unit for _, unit in detector.neurons] == ranked


def test_the_score_by_hand(recording_of):
    # |Units 1 and 2| of four patches after a class token. Unit 1 runs from 1 to 5, unit 2 from 0 to 2.
    hidden = torch.tensor([[9.0, 9, 9], [7, 1, 0], [7, -3, 1], [7, 3, -3], [7, 24, 0]])[None]
    detector = RegisterNeuron(neurons=((1, 1), (2, 0), (1, 2)), levels=((1.0, 5.0), (0.0, 9.0), (0.0, 2.0)))
    outliers = detector(recording_of(ffn_hidden=hidden), Layout(1, Grid(2, 2)))
    torch.testing.assert_close(outliers.scores, torch.tensor([[0.0, 0.5, 0.75, 0.5]]))
    assert outliers.mask.tolist() == [[False, False, True, False]]


def test_a_neuron_no_more_active_at_the_outliers_has_no_vote(recording_of):
    hidden = torch.tensor([[1.0, 5], [8, 0]])[None]
    detector = RegisterNeuron(neurons=((1, 0), (1, 1)), levels=((1.0, 2.0), (3.0, 2.0)))
    scores = detector.score(recording_of(ffn_hidden=hidden), Layout(0, Grid(1, 2)))
    torch.testing.assert_close(scores, torch.tensor([[0.0, 0.5]]))


def test_levels_are_the_mean_activities_that_the_search_saw(outlying, images, recorder):
    layout = outlying.layout(images)
    detector = RegisterNeuron(top_k=3, norm=40.0, detect_at=11).fitted(outlying, images, 6)
    where = token_norms(layout.patches(recorder["block_out", 11])) > 40
    sizes = layout.patches(recorder["ffn_hidden", 6]).abs()
    for (_, unit), (ordinary, active) in zip(detector.neurons, detector.levels, strict=True):
        pairs = [
            (sizes[n, where[n], unit].mean(), sizes[n, ~where[n], unit].mean()) for n in range(3) if where[n].any()
        ]
        assert active == pytest.approx(sum(float(pair[0]) for pair in pairs) / len(pairs), rel=1e-4)
        assert ordinary == pytest.approx(sum(float(pair[1]) for pair in pairs) / len(pairs), rel=1e-4)


def test_sparse_leaves_out_neurons_that_are_active_everywhere(outlying, images, recorder):
    detector = RegisterNeuron(sparse=True, top_k=400, contrast=False).fitted(outlying, images, 6)
    quiet = (outlying.layout(images).patches(recorder["ffn_hidden", 6]).abs() < 0.5).float().mean(dim=1)
    assert NEURON in detector.neurons
    assert all(quiet[:, unit].max() >= 0.5 for _, unit in detector.neurons)
    assert len(detector.neurons) < 256


def test_all_tokens_are_searched_as_released_and_quiet_goes_by_signs_image_by_image(outlying, images, recorder):
    settings = {"top_k": 7, "contrast": False, "detect_at": 11, "norm": 18.0}
    hidden, norms = recorder["ffn_hidden", 6], token_norms(recorder["block_out", 11])
    assert (norms[:, 0] > 18).any()  # a class token above the line counts
    rankings = {}
    for signed in (False, True):
        expected, used = 0, 0
        for number in range(3):
            where = norms[number] > 18
            if where.any():
                values = hidden[number]
                score = values[where].abs().mean(dim=0)
                if signed:
                    score = score * ((values < 0.5).float().mean(dim=0) >= 0.5)
                expected, used = expected + score, used + 1
        rankings[signed] = (expected / used).argsort(descending=True, stable=True)[:7].tolist()
    plain = RegisterNeuron(searched="tokens", **settings).fitted(outlying, images, 6)
    sparse = RegisterNeuron(searched="tokens", sparse=True, quiet="signed", **settings).fitted(outlying, images, 6)
    assert [unit for _, unit in plain.neurons] == rankings[False]
    assert [unit for _, unit in sparse.neurons] == rankings[True]
    assert plain.levels != RegisterNeuron(**settings).fitted(outlying, images, 6).levels


def test_words_without_meaning_are_refused():
    for setting in ({"searched": "all"}, {"quiet": "loud"}, {"scope": "head"}):
        with pytest.raises(ValueError, match="should be"):
            RegisterNeuron(**setting)


def test_a_batch_equals_its_images_one_by_one_and_damage_stays(outlying, images, recorder, recording_of):
    detector, layout = RegisterNeuron().fitted(outlying, images, 6), outlying.layout(images)
    detector = replace(detector, neurons=tuple((1, unit) for _, unit in detector.neurons))
    hidden = recorder["ffn_hidden", 6].bfloat16()
    whole = detector(recording_of(ffn_hidden=hidden), layout)
    assert whole.scores.dtype == torch.float32
    alone = detector(recording_of(ffn_hidden=hidden[1:2]), layout)
    assert torch.equal(alone.scores[0], whole.scores[1])
    hidden = hidden.clone()
    hidden[2, layout.prefix :] = torch.nan
    damaged = detector(recording_of(ffn_hidden=hidden), layout)
    assert damaged.scores[2].isnan().all()
    assert not damaged.mask[2].any()
    assert torch.equal(damaged.scores[:2], whole.scores[:2])


def test_models_without_prefix_and_other_widths_are_fitted_too(images):
    backbone = load_backbone("tiny:class_token=false,depth=3")
    detector = RegisterNeuron(ratio=1.05).fitted(backbone, images, -1)
    assert {layer for layer, _ in detector.neurons} == {3}


def test_the_weights_and_the_detector_are_the_same_after_fitting(outlying, images):
    before = {name: tensor.clone() for name, tensor in outlying.model.state_dict().items()}
    detector = RegisterNeuron()
    detector.fitted(outlying, images, 6)
    assert detector == RegisterNeuron()
    assert all(torch.equal(tensor, before[name]) for name, tensor in outlying.model.state_dict().items())


def test_errors_say_what_to_do(outlying, images, recorder):
    layout = outlying.layout(images)
    with pytest.raises(ValueError, match=r"detector\.fitted\(backbone, images, layer\)"):
        RegisterNeuron()(recorder.recording.at(6), layout)
    with pytest.raises(ValueError, match="none of 3 images has a patch whose norm at layer 11 is above 1e\\+06"):
        RegisterNeuron(norm=1e6).fitted(outlying, images, 6)
    with pytest.raises(ValueError, match="layer 0 is the embedding"):
        RegisterNeuron().fitted(outlying, images, 0)
    detector = RegisterNeuron().fitted(outlying, images, 6)
    with pytest.raises(ValueError, match=r"sits in layer 8; they are in layer\(s\) 6"):
        detector(recorder.recording.at(8), layout)


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 0},
        {"scope": "all"},
        {"highest": 0.0},
        {"norm": -1.0},
        {"ratio": float("nan")},
        {"threshold": 3.0},
        {"levels": ((0.0, 1.0),)},
    ],
)
def test_settings_without_sense_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` should be"):
        RegisterNeuron(**settings)


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_layers_fitted_together_are_those_fitted_alone(outlying, images, scope):
    detector = RegisterNeuron(scope=scope, top_k=4)
    together = detector.fitted_to(outlying, images, [6, 3])
    assert together == {layer: detector.fitted(outlying, images, layer) for layer in (6, 3)}
