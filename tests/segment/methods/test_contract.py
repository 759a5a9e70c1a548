"""What every method in the registry keeps to, on every shape of backbone."""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import replace
from functools import cache
from importlib.util import find_spec

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.backbones.timm import timm_backbone
from diagnostics.backbones.tiny import randomize
from diagnostics.detectors import DETECTORS
from diagnostics.profile_file import write_profile
from diagnostics.purifiers import PURIFIERS
from diagnostics.registry import _REGISTRIES, UnknownName, parse_spec
from segment.decoding.masks import MASKS
from segment.encoders.encode_many import encode_many, stock_forward
from segment.method import Encoder, Encoding, Method, TextFeatures
from segment.methods import METHODS

# Settings with which a method runs without a download: its second backbone is a small one of random weights.
OFFLINE = {"vfm": "tiny(seed=5)", "vfm_size": "none"}
# What a method looks for on the first images of a run, named here.
NAMED = {"neurons": "2/3+5/10"}
# Methods that are defined by the class token (SOM compares its attention, CLIPtrase subtracts its row), and what to
# set, so that they do without.
WITHOUT_CLASS_TOKEN = {
    "sfp": {"detector": "norm-topk"},
    "sfp-paper": {"detector": "norm-topk"},
    "cliptrase": {"denoise": "none"},
}
# More patches than the 30 neighbors of SC-CLIP's density, in a grid that is not square: 6 x 8.
ROWS, COLS = 6, 8
# name -> spec, patch. SigLIP's kind pools by attention and has no class token.
SHAPES = {
    "clip": ("tiny", 16),
    "L/14": ("tiny:depth=24,patch=14,size=56", 14),
    "B/32": ("tiny:patch=32,size=224", 32),
    "registers": ("tiny:registers=4", 16),
    "no class token": ("tiny:class_token=false", 16),
    "registers alone": ("tiny:class_token=false,registers=3", 16),
    "siglip": ("siglip", 16),
}
HEADLESS = ("no class token", "registers alone", "siglip")

every = pytest.mark.parametrize("name", METHODS)


@cache
def backbone_of(spec: str) -> Backbone:
    if spec != "siglip":
        return load_backbone(spec)
    model = VisionTransformer(
        img_size=64,
        patch_size=16,
        embed_dim=48,
        depth=12,
        num_heads=2,
        class_token=False,
        global_pool="map",
        num_classes=0,
    )
    randomize(model, seed=0)
    return timm_backbone(model, "siglip", mean=(0.5,) * 3, std=(0.5,) * 3)


def photos(patch: int = 16, rows: int = ROWS, cols: int = COLS, count: int = 2) -> Tensor:
    return torch.randn(count, 3, patch * rows, patch * cols, generator=torch.Generator().manual_seed(patch))


def method(name: str, **settings: str) -> Method:
    known = METHODS[name].settings()
    offline = OFFLINE if known.get("vfm") not in (None, "self") else {}
    fields = {key: text for key, text in {**offline, **NAMED}.items() if key in known} | settings
    return METHODS.build(f"{name}:{','.join(f'{key}={text}' for key, text in fields.items())}")


def encode(chosen: Method, backbone: Backbone, images: Tensor) -> Encoding:
    return encode_many(backbone, images, [chosen], text=words_for(backbone))[0]


def text_of(value: object) -> str:
    """A setting as a spec has it: parts by their name in the registry, with all their settings."""
    for registry in _REGISTRIES.values():
        for name, part in registry.items():
            if type(value) is part:
                fields = {entry.name: text_of(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
                return f"{name}({','.join(f'{key}={text}' for key, text in fields.items())})"
    if isinstance(value, tuple):
        return "+".join(text_of(item) for item in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def words_for(backbone: Backbone) -> TextFeatures:
    """Four queries of three classes."""
    width = backbone.project(torch.zeros(1, 1, backbone.width, device=backbone.device, dtype=backbone.dtype)).shape[-1]
    features = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    owners = torch.tensor([0, 1, 1, 2])
    return TextFeatures(features=torch.nn.functional.normalize(features, dim=-1), owners=owners, names=("a", "b", "c"))


# On every backbone


@every
@pytest.mark.parametrize("shape", SHAPES)
def test_dense_features_fill_a_grid_over_images_that_are_not_square(name, shape):
    spec, patch = SHAPES[shape]
    backbone, images = backbone_of(spec), photos(patch)
    chosen = method(name, **(WITHOUT_CLASS_TOKEN.get(name, {}) if shape in HEADLESS else {}))
    if shape in HEADLESS and chosen.encoder.unsupported_reason(backbone, backbone.layout(images)):
        return  # it says so, which another test looks at
    encoding = encode(chosen, backbone, images)
    width = backbone.project(torch.zeros(1, 1, backbone.width)).shape[-1]
    assert encoding.patches.shape == (2, encoding.layout.count, width)
    assert encoding.patches.isfinite().all()
    assert encoding.patches.std(dim=1).max() > 1e-3  # not one vector for all patches
    if chosen.settings().get("vfm") is None:  # else it may be the second backbone's grid
        assert encoding.layout.grid == (ROWS, COLS)
    if encoding.class_token is not None:
        assert encoding.class_token.shape == (2, width)
        assert encoding.class_token.isfinite().all()
    assert (encoding.class_token is None) or shape not in HEADLESS


@every
@pytest.mark.parametrize("shape", HEADLESS)
def test_a_method_that_needs_a_class_token_says_so(name, shape):
    """All others do without, which the test of dense features sees."""
    backbone = backbone_of(SHAPES[shape][0])
    reason = method(name).encoder.unsupported_reason(backbone, backbone.layout(photos()))
    assert reason is not None or name not in WITHOUT_CLASS_TOKEN
    if reason is not None:
        with pytest.raises(ValueError, match=rf"`{name}:?` can't run on `.*`: .*no class token"):
            encode(method(name), backbone, photos())


def test_of_the_first_methods_three_need_a_class_token():
    backbone = backbone_of(SHAPES["siglip"][0])
    layout = backbone.layout(photos())
    names = ("clip", "sclip", "clearclip", "gem", "clip-surgery", "sc-clip", "sfp", "sfp-paper", "cliptrase", "lavg")
    refusing = {name for name in names if method(name).encoder.unsupported_reason(backbone, layout)}
    assert refusing == set(WITHOUT_CLASS_TOKEN)


@every
def test_pixels_that_fill_no_patch_are_padded_and_reported(name):
    images = photos()[..., :90, :121]
    encoding = encode(method(name), backbone_of("tiny"), images)
    top, bottom, left, right = encoding.padding
    covered = (90 + top + bottom, 121 + left + right)
    assert covered == (encoding.layout.grid.rows * 16, encoding.layout.grid.cols * 16)
    assert encoding.patches.isfinite().all()


@every
def test_a_batch_equals_its_images_one_by_one(name):
    backbone, images, chosen = backbone_of("tiny"), photos(count=3), method(name)
    images[1] = images[1] * 3
    together = encode(chosen, backbone, images)
    for number in range(3):
        alone = encode(chosen, backbone, images[number : number + 1])
        torch.testing.assert_close(together.patches[number], alone.patches[0], atol=1e-4, rtol=1e-4)
        for key, value in together.extras.items():
            if value.ndim and len(value) == 3 and value.dtype == torch.bool:
                assert torch.equal(value[number], alone.extras[key][0])


@every
def test_the_same_twice_and_whatever_the_global_generator_says(name):
    backbone, images = backbone_of("tiny"), photos()
    torch.manual_seed(1)
    first = encode(method(name), backbone, images)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = encode(method(name), backbone, images)
    assert torch.equal(first.patches, second.patches)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@every
def test_weights_images_and_the_stock_pass_stay_as_they_are(name):
    backbone, images, chosen = backbone_of("tiny"), photos(), method(name)
    weights = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    before = images.clone()
    with torch.no_grad():
        stock = stock_forward(backbone, images, [chosen], positions=chosen.positions, text=words_for(backbone))
        recorded = {place: value.clone() for place, value in stock.recording.values.items()}
        chosen.encoder(stock)
    assert torch.equal(images, before)
    assert all(torch.equal(value, weights[key]) for key, value in backbone.model.state_dict().items())
    assert all(torch.equal(value, recorded[place]) for place, value in stock.recording.values.items())
    assert not any(weight.requires_grad for weight in backbone.model.parameters())


def test_methods_together_give_what_each_gives_alone():
    backbone, images = backbone_of("tiny"), photos()
    methods = [method(name) for name in METHODS]
    for chosen, together in zip(methods, encode_many(backbone, images, methods, text=words_for(backbone)), strict=True):
        alone = encode(chosen, backbone, images)
        torch.testing.assert_close(together.patches, alone.patches, atol=1e-5, rtol=1e-5)


@every
def test_bf16_runs_and_comes_near_fp32(name):
    images = photos()
    full = encode(method(name), backbone_of("tiny"), images)
    half = encode(method(name), load_backbone("tiny", precision="bf16"), images)
    assert half.patches.isfinite().all()
    alike = torch.nn.functional.cosine_similarity(half.patches.float(), full.patches, dim=-1)
    assert alike.median() > 0.9


@every
def test_its_scorer_covers_the_window_with_a_map_for_every_word(name):
    for spec in ("tiny", "tiny:registers=4"):
        backbone, images, chosen = backbone_of(spec), photos(), method(name)
        encoding = encode(chosen, backbone, images)
        scores = chosen.scorer(encoding, words_for(backbone), (96, 128))
        labels = not scores.maps.is_floating_point()
        assert scores.by_class or not labels
        assert scores.maps.shape[:2] == (2, 1 if labels else 3 if scores.by_class else 4)
        assert scores.maps.isfinite().all()


def test_a_classifiers_own_rows_are_words_as_well():
    backbone = backbone_of("tiny:registers=4")
    rows = torch.nn.functional.normalize(backbone.class_head(), dim=-1)
    text = TextFeatures(features=rows, owners=torch.arange(10), names=tuple("abcdefghij"))
    for name in METHODS:
        chosen = method(name)
        scores = chosen.scorer(encode(chosen, backbone, photos()), text, (96, 128))
        assert scores.maps.shape[:2] == (2, 10 if scores.maps.is_floating_point() else 1)


# Outliers


@every
def test_a_purifier_that_keeps_all_asks_no_detector(name):
    backbone, images = backbone_of("tiny"), photos()
    kept = [
        encode(method(name, detector=detector, purifier="keep"), backbone, images)
        for detector in ("relative-norm", "random")
    ]
    assert torch.equal(kept[0].patches, kept[1].patches)
    assert not kept[0].extras["outliers"].any()


@every
def test_a_detector_that_marks_nothing_changes_nothing(name):
    backbone, images = backbone_of("tiny"), photos()
    kept = encode(method(name, purifier="keep"), backbone, images)
    # A method with a fixed number of outliers takes that many, whatever the detector's threshold says.
    free = {"count": "none"} if "count" in METHODS[name].settings() else {}
    encoding = encode(method(name, detector="norm(threshold=1e9)", purifier="zero", **free), backbone, images)
    torch.testing.assert_close(encoding.patches, kept.patches, atol=1e-5, rtol=1e-5)


@every
def test_marked_patches_are_purified_and_reported(name):
    backbone, images = backbone_of("tiny"), photos()
    kept = encode(method(name, purifier="keep"), backbone, images)
    encoding = encode(method(name, detector="norm-topk(count=4)", purifier="zero"), backbone, images)
    assert encoding.extras["outliers"].shape == encoding.patches.shape[:2]
    assert encoding.extras["outliers"].sum(dim=1).min() >= 4
    assert not torch.allclose(encoding.patches, kept.patches, atol=1e-3)


@every
@pytest.mark.parametrize("detector", ["singular-defect(samples=1)", "adaptive(detector=singular-defect)"])
def test_a_detector_that_learns_is_fitted_before_it_looks(name, detector):
    backbone, images = backbone_of("tiny"), photos()
    chosen = method(name, detector=detector, purifier="zero")
    fitted = chosen.fitted(backbone, images)
    assert fitted != chosen
    assert encode(fitted, backbone, images).patches.isfinite().all()


@pytest.fixture(scope="module")
def outlying() -> tuple[Backbone, Tensor]:
    """A model that makes outliers on plain patches, and two images that are half plain: 8 x 8 patches."""
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    images[..., 64:] = 0.2
    return load_backbone("tiny:outliers=true"), images


def profile_of(backbone, folder):
    """The file of a profile with a line at 1.02 in every layer."""
    facts = {
        "verdict": "norm outliers",
        "first_layer": 1,
        "outliers_per_image": 1.0,
        "threshold": {str(layer): 1.02 for layer in range(1, backbone.depth + 1)},
        "backbone": backbone.spec,
        "weights": fingerprint(backbone.model),
        "detector": "relative-norm",
        "settings": {"mean": list(backbone.mean), "std": list(backbone.std)},
    }
    return write_profile(facts, folder / "profile.json")


@pytest.mark.parametrize("name", ["clearclip", "clip-surgery", "sc-clip", "sfp-paper"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_fits_into_every_kind_of_method(outlying, name, detector, tmp_path):
    backbone, images = outlying
    if detector == "profile":
        settings = f"({profile_of(backbone, tmp_path)})"
        chosen = method(name, detector=detector + settings).fitted(backbone, images)
        assert encode(chosen, backbone, images).extras["outliers"].dtype == torch.bool
        return
    settings = "(trees=5)" if detector == "isolation-forest" else ""  # a hundred take a second a layer
    chosen = method(name, detector=detector + settings, purifier="neighbor-median").fitted(backbone, images)
    if detector == "pyod" and find_spec("pyod") is None:  # an extra of the package
        with pytest.raises(ValueError, match="pip install pyod"):
            encode(chosen, backbone, images)
        return
    encoding = encode(chosen, backbone, images)
    assert encoding.patches.isfinite().all()
    assert encoding.extras["outliers"].dtype == torch.bool


@pytest.mark.parametrize("name", ["clearclip", "clip-surgery", "sc-clip", "sfp-paper"])
@pytest.mark.parametrize("purifier", PURIFIERS)
def test_every_purifier_fits_into_every_kind_of_method(name, purifier):
    backbone, images = backbone_of("tiny"), photos()
    encoding = encode(method(name, detector="norm-topk(count=4)", purifier=purifier), backbone, images)
    assert encoding.patches.isfinite().all()
    assert encoding.extras["outliers"].any() == (purifier != "keep")


# Specs


@every
def test_all_settings_written_out_as_a_spec_build_the_same_method(name):
    settings = {key: text_of(value) for key, value in METHODS[name].settings().items()}
    built = METHODS.build(f"{name}:{','.join(f'{key}={text}' for key, text in settings.items())}")
    assert replace(built, spec=name) == METHODS[name]
    assert parse_spec(built.spec)[1] == settings


@every
def test_every_setting_can_be_given_alone_and_an_unknown_one_is_refused_with_the_list(name):
    for key, value in METHODS[name].settings().items():
        built = METHODS.build(f"{name}:{key}={text_of(value)}")
        assert built.settings() == METHODS[name].settings()
    with pytest.raises(UnknownName, match=rf"no setting of method `{name}` `no_such`.* Known: .*detector"):
        METHODS.build(f"{name}:no_such=1")


@every
def test_settings_of_encoder_scorer_and_decoder_have_different_names(name):
    parts = METHODS[name].encoder, METHODS[name].scorer, METHODS[name].decode
    names = [entry.name for part in parts for entry in dataclasses.fields(part)]
    assert len({*names, "positions"}) == len(names) + 1


PARTS = {*(type(METHODS[name].encoder) for name in METHODS), *(type(METHODS[name].scorer) for name in METHODS)}
WORDS = [
    (part, name)
    for part in sorted({*PARTS, *MASKS.values()}, key=lambda part: part.__name__)
    for name, kind in typing.get_type_hints(part).items()
    if typing.get_origin(kind) is typing.Literal
]


@pytest.mark.parametrize(("part", "name"), WORDS)
def test_a_word_that_a_field_does_not_know_is_refused_where_no_spec_is_read_either(part, name):
    with pytest.raises(ValueError, match="`wrod`"):
        part(**{name: "wrod"})


@every
def test_any_detector_and_purifier_can_be_named(name):
    for detector in DETECTORS:
        assert type(METHODS.build(f"{name}:detector={detector}").encoder.detector) is DETECTORS[detector]
    for purifier in PURIFIERS:
        assert type(METHODS.build(f"{name}:purifier={purifier}").encoder.purifier) is PURIFIERS[purifier]


@every
def test_a_method_says_what_it_is_and_where_it_comes_from(name):
    chosen = METHODS[name]
    assert chosen.summary == chosen.summary.strip() != ""
    assert "\n" not in chosen.summary
    assert chosen.paper.title
    # A paper with a number or a release has a year as well.
    assert re.search(r"\b20\d\d$", chosen.paper.venue) or not (chosen.paper.code or chosen.paper.arxiv)
    # Each release and each print leaves something that is settled otherwise here; a method of our own needs none.
    assert chosen.departures or not (chosen.paper.code or name.endswith("-paper"))
    assert all(line == line.strip() != "" for line in chosen.departures)
    assert re.fullmatch(r"\d{4}\.\d{5}|", chosen.paper.arxiv)
    if chosen.paper.code:  # released code, at a commit
        assert re.match(r"[\w-]+/[\w-]+ [0-9a-f]{7}", chosen.paper.code)
    assert METHODS.describe()[name] == chosen.summary


@every
def test_a_method_declares_by_what_it_purifies_and_whether_it_learns(name):
    for detector, learns in (("norm-topk", False), ("register-neuron", True)):
        chosen = method(name, detector=detector)
        if chosen.encoder.purification is not None:
            assert chosen.encoder.purification.detector == DETECTORS.build(detector)
        # An encoder that makes more ready than one layer's detector always has something to learn.
        has_fitted = type(chosen.encoder).fitted is not Encoder.fitted
        assert chosen.learns == (learns or has_fitted)


def test_an_unknown_method_is_refused_with_the_near_one():
    with pytest.raises(UnknownName, match=r"no method `clearclp`. Did you mean `clearclip`\?"):
        METHODS.build("clearclp")
    with pytest.raises(ValueError, match="at least one method; known: clip, "):
        encode_many(backbone_of("tiny"), photos(), [])
