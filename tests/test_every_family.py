"""Every measure, detector, edit and method on one small model of each family: it runs, or says why it does not."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from diagnostics import Backbone, Recorder, load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.pyod import MISSING
from diagnostics.edits import EDITS, channel_vector
from diagnostics.layout import Layout
from diagnostics.measures import MEASURES
from diagnostics.purifiers import PURIFIERS
from diagnostics.studies.probe import measure_images
from diagnostics.tap_places import BY_QUERY_AND_KEY
from segment.encoders.encode_many import encode_many
from segment.method import Method, TextFeatures
from segment.methods import METHODS

# One of each family, with registers where it has them.
FAMILIES = {
    "rotary": "tiny:kind=rotary,registers=4",
    "rotary-mixed": "tiny:kind=rotary-mixed",
    "relative-bias": "tiny:kind=relative-bias",
    "post-norm": "tiny:kind=post-norm,registers=1",
    "parallel": "tiny:kind=parallel",
    "differential": "tiny:kind=differential",
    "conv-stem": "tiny:kind=conv-stem",
    "naflex": "tiny:kind=naflex,class_token=false",
}
WORDS = "difference of two softmaxes"
LAYER = 10

every = pytest.mark.parametrize("family", FAMILIES)
recombined = pytest.mark.parametrize("family", [family for family in FAMILIES if family != "differential"])


@cache
def model(family: str) -> Backbone:
    return load_backbone(FAMILIES[family])


@cache
def photos() -> Tensor:
    """Two images in a grid of 6 x 8."""
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(2))


def layout_of(backbone: Backbone) -> Layout:
    return backbone.layout(photos())


@every
def test_every_measure_runs_or_says_why(family):
    backbone, layout = model(family), layout_of(model(family))
    labels = torch.arange(layout.count).expand(2, -1) % 3
    ran = 0
    for name in MEASURES:
        part = MEASURES.build(name)
        if reason := backbone.lacking(part.needs) or part.unsupported_reason(layout, labeled=True):
            assert WORDS in reason if family == "differential" and BY_QUERY_AND_KEY & set(part.needs) else reason
            continue
        ran += 1
        for variable, values in measure_images(backbone, photos(), [part], labels=labels, layers=[3, LAYER]).items():
            assert values.isfinite().all(), variable
    assert ran >= 12


@every
def test_every_detector_runs_or_says_why(family):
    backbone, layout = model(family), layout_of(model(family))
    ran = 0
    for name in DETECTORS:
        if name == "profile":  # which names a file of a run, and another detector that it hands over to
            continue
        # Random weights have no outliers of the usual size to learn from.
        part = DETECTORS.build("register-neuron:ratio=1.05" if name == "register-neuron" else name)
        if reason := backbone.lacking(part.needs) or part.unsupported_reason(layout):
            assert reason == MISSING or WORDS in reason or "class token" in reason, name
            continue
        part = part.fitted(backbone, photos(), LAYER)
        recorder = Recorder("block_out", *part.needs, layers=[LAYER])
        backbone.trunk(photos(), stop=LAYER, tap=recorder)
        scores, mask = part(recorder.recording, layout)
        assert scores.shape == mask.shape == (2, layout.count)
        assert scores.isfinite().all(), name
        ran += 1
    assert ran >= 10


def edits() -> dict[str, Any]:
    """One of each edit, with settings that change something."""
    return {
        "purify-at": EDITS["purify-at"](
            detector=DETECTORS.build("norm-topk:count=3"), purifier=PURIFIERS.build("neighbor-mean"), layers=(4, 9)
        ),
        "register": EDITS["register"](neurons=((3, 5), (6, 1))),
        "mute-channels": EDITS["mute-channels"](channels=(1, 7), layers=(5,)),
        "attention-mask": EDITS["attention-mask"](patches=(2, 3), layers=(7,), how="zero"),
        "scale-residual": EDITS["scale-residual"](alpha=3.0),
        "plant": EDITS["plant"](vector=channel_vector(48, (3, 9), 200.0), layers=(6,)),
    }


@every
@pytest.mark.parametrize("name", edits())
def test_every_edit_changes_the_tokens(family, name):
    backbone = model(family)
    edited = backbone.trunk(photos(), tap=edits()[name])
    assert edited.shape[1] == layout_of(backbone).tokens + (name == "register")
    assert edited.isfinite().all()
    patches = edited[:, -layout_of(backbone).count :]
    assert not torch.allclose(patches, backbone.trunk(photos())[:, -layout_of(backbone).count :])


def test_an_edit_with_a_detector_of_queries_is_refused_where_there_are_none():
    edit = EDITS["purify-at"](detector=DETECTORS.build("stripe"), purifier=PURIFIERS.build("neighbor-mean"))
    with pytest.raises(ValueError, match="`query` does not pass here"):
        model("differential").trunk(photos(), tap=edit)


def specs(name: str) -> list[str]:
    """A method, offline, and once more with kernels that compare content alone, where that is a setting."""
    settings = METHODS[name].settings()
    chosen = [f"{name}:vfm=self"] if "vfm" in settings and settings["vfm"] not in (None, "self") else [name]
    if "kernel_positions" in settings:
        chosen.append(f"{chosen[0]}{',' if ':' in chosen[0] else ':'}kernel_positions=dropped")
    return chosen


def reason_of(method: Method, backbone: Backbone) -> str | None:
    """Why a method can't run on a model, or None."""
    reason = method.encoder.unsupported_reason(backbone, layout_of(backbone))
    return reason or backbone.lacking(tap for tap, _ in method.encoder.needs(backbone.depth))


def words(backbone: Backbone) -> TextFeatures:
    """Three classes of one query each."""
    width = backbone.project(torch.zeros(1, 1, backbone.width)).shape[-1]
    features = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(features, dim=-1)
    return TextFeatures(features=unit, owners=torch.arange(3), names=("a", "b", "c"))


@every
@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_or_says_why(family, name):
    backbone = model(family)
    for spec in specs(name):
        method = METHODS.build(spec)
        reason = reason_of(method, backbone)
        if not reason:  # some know only once they have looked for their neurons
            method = method.fitted(backbone, photos())
            reason = reason_of(method, backbone)
        if reason:
            known = ("class token", "no place on the grid")
            assert WORDS in reason if family == "differential" else any(word in reason for word in known), reason
            with pytest.raises(ValueError, match="can't run"):
                encode_many(backbone, photos(), [method], text=words(backbone))
            continue
        (encoding,) = encode_many(backbone, photos(), [method], text=words(backbone))
        assert encoding.patches.isfinite().all()
        assert encoding.patches.std(dim=1).max() > 1e-3


@recombined
def test_the_last_block_recombined_is_the_stock_block(family):
    backbone, layout = model(family), layout_of(model(family))
    stock = backbone.project(backbone.trunk(photos(), positions="bicubic-offset"))
    (clip,) = encode_many(backbone, photos(), ["clip"])
    torch.testing.assert_close(clip.patches, layout.patches(stock), atol=1e-4, rtol=1e-4)
    surgery = "clip-surgery:early=stock" if "early" in METHODS["clip-surgery"].settings() else "clip-surgery"
    (surgery_encoding,) = encode_many(backbone, photos(), [surgery], positions="bicubic-offset")
    if layout.has_class_token:
        expected = layout.class_token(stock)
        torch.testing.assert_close(surgery_encoding.class_token, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["rotary", "rotary-mixed", "relative-bias"])
@pytest.mark.parametrize("name", ["clearclip", "gem", "cliptrase", "sc-clip", "sfp-paper"])
def test_kernels_with_and_without_positions_differ_where_a_model_has_them(family, name):
    backbone = model(family)
    kept, dropped = (
        encode_many(backbone, photos(), [f"{name}:kernel_positions={how}"])[0] for how in ("kept", "dropped")
    )
    assert not torch.allclose(kept.patches, dropped.patches, atol=1e-3)
    plain = load_backbone("tiny")
    same = [encode_many(plain, photos(), [f"{name}:kernel_positions={how}"])[0] for how in ("kept", "dropped")]
    assert torch.equal(same[0].patches, same[1].patches)
