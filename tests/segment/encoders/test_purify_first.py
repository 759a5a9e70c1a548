"""Purify first: equal to its encoder where nothing is marked, and to purification by hand where something is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.purifiers import PURIFIERS
from diagnostics.taps import Recorder, Recording
from segment.encoders.encode_many import encode_many
from segment.encoders.purify_first import WITH_TEXT, PurifyFirst
from segment.method import Activations
from segment.methods import METHODS


@pytest.fixture(scope="module")
def outlying() -> Backbone:
    """A model that makes outliers on plain patches."""
    return load_backbone("tiny:outliers=true")


@pytest.fixture(scope="module")
def mixed() -> Tensor:
    """Three images of 6 x 8 patches: noise, plain in its lower half, noise."""
    images = torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    images[1, :, 48:] = 0.2
    return images


def patches(backbone: Backbone, images: Tensor, spec: str) -> Tensor:
    return encode_many(backbone, images, [spec], positions="bicubic-offset")[0].patches


@pytest.mark.parametrize("then", ["auto", "clearclip", "sc-clip(purifier=keep)", "gem-paper", "sfp-paper", "clip"])
def test_an_image_without_outliers_has_the_encoders_own_features_bit_for_bit(outlying, mixed, then):
    (encoding,) = encode_many(outlying, mixed, [f"purify-first:then={then},detector=norm(threshold=600)"])
    marked = encoding.extras["outliers_by_layer"].flatten(1).any(dim=1)
    assert marked.tolist() == [False, True, False]
    plain = {"auto": WITH_TEXT, "sfp-paper": "sfp-paper(purifier=keep)"}.get(then, then)
    expected = patches(outlying, mixed, plain)
    assert torch.equal(encoding.patches[[0, 2]], expected[[0, 2]])
    assert not torch.allclose(encoding.patches[1], expected[1], atol=1e-3)


def test_it_equals_detecting_replacing_and_running_on_by_hand(outlying, mixed):
    spec = "purify-first:then=clearclip,detector=relative-norm(threshold=2),purifier=neighbor-median,purify_from=4"
    (encoding,) = encode_many(outlying, mixed, [spec])
    detector, purifier = DETECTORS.build("relative-norm:threshold=2"), PURIFIERS.build("neighbor-median")
    layout = outlying.layout(mixed)
    tokens = outlying.embed(mixed, positions="bicubic-offset")
    marks = []
    for layer in range(1, 12):
        tokens = outlying.run(tokens, start=layer, stop=layer, layout=layout)
        if layer < 4:
            continue
        values = Recording(12, {("block_out", layer): tokens})
        mask = detector(values, layout).mask
        marks.append(mask)
        tokens = layout.with_patches(tokens, purifier(layout.patches(tokens), mask, layout))
    recording = Recording(12, {("block_out", 11): tokens})
    expected = METHODS["clearclip"].encoder(Activations(outlying, mixed, layout, recording))
    assert torch.allclose(encoding.patches, expected.patches, atol=1e-5)
    assert torch.equal(encoding.extras["outliers_by_layer"], torch.stack(marks, dim=1))
    assert torch.equal(encoding.extras["outliers"], torch.stack(marks).any(dim=0))


def test_the_encoder_reads_every_layer_of_the_purified_stream(outlying, mixed):
    # SC-CLIP reads layers 4 to 11: with all of them from the purified pass it equals the encoder on that pass alone.
    image = mixed[1:2]
    (encoding,) = encode_many(outlying, image, ["purify-first:then=sc-clip(purifier=keep)"])
    part = METHODS["purify-first"].encoder
    from diagnostics.edits.purify_at import PurifyAt
    from diagnostics.taps import chain

    edit = PurifyAt(layers=tuple(range(1, 12)), detector=part.detector, purifier=part.purifier)
    recorder = Recorder("block_out", layers=range(12))
    outlying.trunk(image, stop=11, tap=chain(edit, recorder), positions="bicubic-offset")
    inner = METHODS.build("sc-clip:purifier=keep").encoder
    expected = inner(Activations(outlying, image, outlying.layout(image), recorder.recording))
    assert torch.allclose(encoding.patches, expected.patches, atol=1e-5)


def test_by_default_a_classifier_is_read_by_summed_attention_and_a_text_model_is_not(outlying, mixed):
    part = PurifyFirst()
    with_text = patches(outlying, mixed, f"purify-first:then={WITH_TEXT}")
    assert torch.equal(patches(outlying, mixed, "purify-first"), with_text)
    classifier = load_backbone("tiny:registers=4")
    assert not classifier.has_text
    chosen = part.encoder(classifier)
    assert type(chosen) is type(METHODS["sfp-paper"].encoder)
    expected = patches(classifier, mixed, "sfp-paper:detector=adaptive,purifier=neighbor-mean")
    assert torch.equal(patches(classifier, mixed, "purify-first"), expected)


def test_an_encoder_that_runs_the_blocks_itself_purifies_on_its_way(outlying, mixed):
    expected = patches(outlying, mixed, "sfp-paper:detector=adaptive,purifier=neighbor-mean")
    assert torch.equal(patches(outlying, mixed, "purify-first:then=sfp-paper"), expected)


def test_settings_without_meaning_are_refused(tiny, images):
    with pytest.raises(ValueError, match="another method than this one"):
        METHODS.build("purify-first:then=purify-first")
    with pytest.raises(ValueError, match="no method `nothing`"):
        METHODS.build("purify-first:then=nothing")
    for setting in ("purify_from=0", "purify_from=9,purify_to=3", "purify_to=30"):
        with pytest.raises(ValueError, match="can't run"):
            encode_many(tiny, images, [f"purify-first:{setting}"])
