"""LaVG's encoder: SCLIP's features, and masks cut among a second backbone's keys, on the same pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.backbones.base import join_heads
from diagnostics.layout import Grid
from diagnostics.taps import Recorder, Recording
from segment.encoders.encode_many import encode_many
from segment.encoders.lazy_grounding import LazyGrounding, over_padded
from segment.encoders.panoptic_cut import panoptic_cut
from segment.encoders.second_backbone import second_backbone
from segment.method import Activations, Scorer, TextFeatures
from segment.methods import METHODS

SECOND = "tiny(patch=8,registers=4,seed=5)"
SPEC = f"lavg:vfm={SECOND},vfm_size=none,cuts=3"


def bare(backbone: Backbone, size: tuple[int, int]) -> Activations:
    return Activations(backbone, torch.zeros(1, 3, *size), backbone.layout(size), Recording(0, {}))


def numbered(stock: Activations) -> Tensor:
    return stock.layout.to_map(torch.arange(stock.layout.count)[None])


def test_the_features_are_those_of_sclip(tiny, images):
    encodings, sclip = encode_many(tiny, images, [SPEC, "sclip"])
    assert torch.equal(encodings.patches, sclip.patches)
    assert torch.equal(encodings.class_token, sclip.class_token)
    assert (encodings.layout, encodings.padding) == (sclip.layout, sclip.padding)


def test_the_masks_are_cut_among_the_second_backbones_keys(tiny, images):
    second = second_backbone(SECOND, like=tiny)
    pixels = images * images.new_tensor(tiny.std)[:, None, None] + images.new_tensor(tiny.mean)[:, None, None]
    again = (pixels - images.new_tensor(second.mean)[:, None, None]) / images.new_tensor(second.std)[:, None, None]
    recorder = Recorder("key", layers=[-1])
    second.trunk(again, tap=recorder, positions="bicubic-offset")
    layout = second.layout(images)
    expected = layout.to_map(panoptic_cut(layout.patches(join_heads(recorder["key"])), layout.grid, cuts=3))
    masks = encode_many(tiny, images, [SPEC])[0].extras["masks"]
    assert masks.shape == (2, 8, 12)
    assert len(masks.unique()) > 1
    assert torch.equal(masks, expected)


def test_the_image_is_left_for_other_sources_of_masks(tiny, images):
    image = encode_many(tiny, images[..., :90], [SPEC])[0].extras["image"]
    assert image.shape == (2, 3, 64, 96)
    assert image.min() >= 0
    assert image.max() <= 1


def test_without_cuts_no_second_backbone_is_asked_for(tiny, images):
    masks = encode_many(tiny, images, ["lavg:vfm=timm:nowhere,cuts=0"])[0].extras["masks"]
    assert masks.shape == (2, 4, 6)
    assert (masks == -1).all()


def test_masks_lie_where_the_model_is_whatever_holds_the_images(tiny, images):
    stock = Activations(tiny, images.to("meta"), tiny.layout(images), Recording(12, {}))
    assert LazyGrounding(cuts=0)._masks(stock).device == tiny.device


@pytest.mark.parametrize("first", ["tiny", "tiny:class_token=false", "tiny:registers=4"])
@pytest.mark.parametrize("vfm", ["self,vfm_layer=6", SECOND])
@pytest.mark.parametrize("size", ["none", "100"])
def test_any_prefix_and_any_size_runs_and_a_batch_equals_its_images(first, vfm, size):
    backbone = load_backbone(first)
    images = torch.randn(2, 3, 50, 84, generator=torch.Generator().manual_seed(0))
    spec = f"lavg:vfm={vfm},vfm_size={size},cuts=2"
    whole = encode_many(backbone, images, [spec])[0]
    assert whole.patches.isfinite().all()
    for number in range(2):
        alone = encode_many(backbone, images[number : number + 1], [spec])[0]
        torch.testing.assert_close(whole.patches[number], alone.patches[0], atol=1e-4, rtol=1e-4)
        assert torch.equal(whole.extras["masks"][number], alone.extras["masks"][0])


def test_it_runs_in_bf16(images):
    encoding = encode_many(load_backbone("tiny", precision="bf16"), images, [SPEC])[0]
    assert encoding.patches.dtype == torch.bfloat16
    assert encoding.extras["masks"].shape == (2, 8, 12)


def test_a_map_over_the_same_pixels_is_read_as_it_is(tiny):
    first, second = bare(tiny, (60, 90)), bare(load_backbone("tiny:patch=8"), (60, 90))
    assert torch.equal(over_padded(numbered(second), second, first), numbered(second))


def test_a_map_over_fewer_pixels_repeats_its_border(tiny):
    # 84 columns: 6 + 84 + 6 make whole patches of 16, and 2 + 84 + 2 make eleven of 8; column k of twelve is column k.
    first, second = bare(tiny, (64, 84)), bare(load_backbone("tiny:patch=8"), (64, 84))
    read = over_padded(numbered(second), second, first)
    assert read.shape == (1, 8, 12)
    assert torch.equal(read[..., :11], numbered(second))
    assert torch.equal(read[..., 11], numbered(second)[..., 10])


def test_a_map_of_a_resized_image_covers_the_same_pixels(tiny):
    first, second = bare(tiny, (32, 48)), bare(tiny, (96, 144))
    assert second.layout.grid == Grid(6, 9)
    assert torch.equal(over_padded(numbered(second), second, first), numbered(second))


def test_the_scorer_gives_every_pixel_of_a_mask_the_same_scores(tiny, images):
    method = METHODS.build(SPEC)
    scorer: Scorer = method.scorer
    encoding = encode_many(tiny, images, [method])[0]
    features = torch.nn.functional.normalize(torch.randn(3, 40, generator=torch.Generator().manual_seed(0)), dim=-1)
    text = TextFeatures(features=features, owners=torch.arange(3), names=("a", "b", "c"))
    maps = scorer(encoding, text, (64, 96)).maps
    assert maps.shape == (2, 3, 64, 96)
    masks = encoding.extras["masks"].repeat_interleave(8, 1).repeat_interleave(8, 2)
    for image in range(2):
        for number in masks[image].unique():
            inside = maps[image][:, masks[image] == number]
            assert torch.equal(inside, inside[:, :1].expand_as(inside))


def test_settings_of_encoder_and_scorer_are_reached_by_one_spec():
    method = METHODS.build("lavg:background_only=true,tau=0.2,kernel=kk,vfm=self")
    assert method.settings()["background_only"] is True
    assert method.settings()["tau"] == 0.2
    assert method.settings()["kernel"] == "kk"


@pytest.mark.parametrize("setting", ["tau=1", "tau=-0.1", "cuts=-1", "kernel=qx", "vfm_size=0"])
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(ValueError, match=setting.split("=")[0] if "kernel" not in setting else "qx"):
        METHODS.build(f"lavg:{setting}")


def test_a_detector_is_asked_about_the_grid_that_the_second_pass_has(tiny, images):
    # 24 patches are too few for 30 neighbors; at 192 pixels there are 96.
    spec = "lavg:vfm=self,vfm_size={},cuts=1,vfm_detector=lof(neighbors=30),vfm_purifier=mean"
    with pytest.raises(ValueError, match="24 patches can't have 30 neighbors"):
        encode_many(tiny, images, [spec.format("none")])
    (encoding,) = encode_many(tiny, images, [spec.format("192")])
    assert encoding.extras["masks"].shape == (2, 8, 12)
