"""The second backbone: how it is named, loaded and fed, and where its patches lie on the first one's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from diagnostics import load_backbone
from diagnostics.backbones.base import join_heads
from diagnostics.detectors.massive import Massive
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.images import denormalize, normalize
from diagnostics.purifiers.keep import Keep
from diagnostics.purifiers.zero import Zero
from diagnostics.registry import split_specs
from diagnostics.taps import Recorder, Recording
from segment.decoding.interpolation import linear_weights
from segment.encoders import second_backbone as module
from segment.encoders.second_backbone import SecondBackbone, in_patches, onto_grid, patch_centers, second_backbone
from segment.method import Activations
from segment.methods import METHODS

PART = SecondBackbone(spec="tiny(patch=8,class_token=false,registers=4)", detector=NormTopK(), purifier=Keep())


def stock_of(backbone, images) -> Activations:
    recorder = Recorder("block_out")
    backbone.trunk(images, tap=recorder)
    return Activations(backbone, images, backbone.layout(images), recorder.recording)


def bare(backbone, size: tuple[int, int]) -> Activations:
    return Activations(backbone, torch.zeros(1, 3, *size), backbone.layout(size), Recording(0, {}))


@pytest.mark.parametrize(
    "value, spec",
    [
        ("timm:vit_base_patch16_224.dino", "timm:vit_base_patch16_224.dino"),
        ("timm:vit_base_patch16_224.dino@a/b.pt", "timm:vit_base_patch16_224.dino@a/b.pt"),
        ("timm(vit_base_patch16_224.dino@a/b.pt)", "timm:vit_base_patch16_224.dino@a/b.pt"),
        ("tiny(patch=8,registers=4)", "tiny:patch=8,registers=4"),
        ("tiny", "tiny"),
        ("self", "self"),
    ],
)
@pytest.mark.parametrize("method", ["proxyclip", "lavg"])
def test_a_method_spec_takes_a_backbone_spec_with_its_own_colon(method, value, spec):
    encoder = METHODS.build(f"{method}:vfm={value},vfm_layer=-2").encoder
    assert (encoder.vfm, encoder.vfm_layer) == (value, -2)
    assert module._plain(encoder.vfm) == spec


def test_several_methods_in_one_text_keep_their_second_backbones():
    text = (
        "clip,proxyclip:gamma=2,vfm=timm:vit_base_patch16_224.dino@a.pt,beta=1,lavg:vfm=tiny(patch=8,size=32),tau=0.2"
    )
    assert split_specs(text) == [
        "clip",
        "proxyclip:gamma=2,vfm=timm:vit_base_patch16_224.dino@a.pt,beta=1",
        "lavg:vfm=tiny(patch=8,size=32),tau=0.2",
    ]


def test_a_backbone_is_loaded_once_for_each_device_and_precision():
    first = load_backbone("tiny")
    second = second_backbone("tiny(patch=8)", like=first)
    assert second.spec == "tiny:patch=8"
    assert second_backbone("tiny:patch=8", like=first) is second
    half = second_backbone("tiny:patch=8", like=load_backbone("tiny", precision="bf16"))
    assert half is not second
    assert (half.dtype, second.dtype) == (torch.bfloat16, torch.float32)


def test_a_timm_model_of_a_file_serves_as_second_backbone(tiny, images, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    part = replace(PART, spec=f"timm:test_vit@{tmp_path / 'weights.safetensors'}")
    second = part.activations(stock_of(tiny, images))
    photos = normalize(denormalize(images, tiny.mean, tiny.std), second.backbone.mean, second.backbone.std)
    model.set_input_size(img_size=(64, 96))
    with torch.no_grad():
        expected = model.forward_features(photos)[:, 1:]
    torch.testing.assert_close(part.features(second), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_weights_that_cannot_be_had_are_reported_with_the_way_out(tiny, monkeypatch, error):
    def offline(spec, **settings):
        raise error("no connection.")

    monkeypatch.setattr(module, "load_backbone", offline)
    with pytest.raises(error, match=r"timm:nowhere.*no connection.*vfm=timm:NAME@FILE.*vfm=self"):
        second_backbone("timm:nowhere", like=tiny)


def test_images_are_normalized_anew_and_resized_to_the_longer_side(tiny):
    second = load_backbone("tiny:class_token=false")
    plain = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    images = normalize(plain, tiny.mean, tiny.std)
    same = PART.images(tiny, second, images)
    torch.testing.assert_close(same, normalize(plain, second.mean, second.std), atol=1e-6, rtol=0)
    resized = replace(PART, size=60).images(tiny, second, images)
    assert resized.shape == (2, 3, 40, 60)
    larger = F.interpolate(plain, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, normalize(larger, second.mean, second.std), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [-1, 5])
def test_features_at_each_tap_are_those_of_the_stock_forward(tiny, images, layer):
    first = stock_of(tiny, images)
    backbone = second_backbone(PART.spec, like=tiny)
    photos = PART.images(tiny, backbone, images)
    recorder = Recorder("block_out", "query", "key", "value", layers=[layer])
    backbone.trunk(photos, tap=recorder)
    cut = backbone.layout(photos).patches
    for tap in ("block_out", "query", "key", "value", "out"):
        part = replace(PART, tap=tap, layer=layer)
        if tap == "out":
            expected = backbone.project(recorder["block_out"])
        else:
            expected = recorder[tap] if tap == "block_out" else join_heads(recorder[tap])
        torch.testing.assert_close(part.features(part.activations(first)), cut(expected), atol=1e-5, rtol=1e-5)


def test_self_reads_the_first_pass_and_runs_no_other(tiny, images, monkeypatch):
    part = SecondBackbone(spec="self", layer=7, tap="block_out", detector=NormTopK(), purifier=Keep())
    assert part.needs(12) == [("block_out", 7)]
    assert replace(part, tap="key").needs(12) == [("block_out", 6)]
    first = stock_of(tiny, images)
    monkeypatch.setattr(type(tiny), "_run", None)
    assert part.activations(first) is first
    assert torch.equal(part.features(first), first.patches(7))


def test_self_at_another_size_runs_the_first_backbone_once_more(tiny, images):
    part = SecondBackbone(spec="self", layer=3, tap="block_out", size=192, detector=NormTopK(), purifier=Keep())
    assert part.needs(12) == []
    second = part.activations(stock_of(tiny, images))
    assert second.backbone is tiny
    assert second.layout.grid == (8, 12)
    assert part.features(second).shape == (2, 96, 48)


def test_the_second_backbones_patches_can_be_purified(tiny, images):
    first = stock_of(tiny, images)
    part = replace(PART, tap="block_out", detector=NormTopK(count=5), purifier=Zero())
    assert ((part.features(part.activations(first)) == 0).all(dim=-1).sum(dim=1) == 5).all()
    keys = replace(part, tap="key")
    changed = (
        keys.features(keys.activations(first)) != replace(keys, purifier=Keep()).features(keys.activations(first))
    ).any(-1)
    assert (changed.sum(dim=1) == 5).all()


def test_settings_that_cannot_be_are_refused(tiny, images):
    with pytest.raises(ValueError, match="`kye`"):
        replace(PART, tap="kye")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="number of pixels"):
        replace(PART, size=0)
    with pytest.raises(ValueError, match="`vfm_layer`"):
        replace(PART, tap="key", layer=0).activations(stock_of(tiny, images))
    with pytest.raises(ValueError, match="blocks"):
        replace(PART, layer=13).activations(stock_of(tiny, images))


def test_a_detector_that_learns_is_fitted_on_the_second_backbone(tiny, images):
    fitted_on = []

    class Learner(Massive):
        def fitted(self, backbone, images, layer):
            fitted_on.append((backbone.spec, images.shape, layer))
            return self

    part = replace(PART, detector=Learner(), tap="key")
    assert part.fitted(tiny, images) is part.detector
    assert not fitted_on  # nothing is purified, so nothing is learned
    replace(part, purifier=Zero()).fitted(tiny, images)
    assert fitted_on == [("tiny:patch=8,class_token=false,registers=4", images.shape, 11)]


# Two grids on one image


def test_linear_weights_are_a_bilinear_resize():
    row = torch.rand(1, 1, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = (torch.arange(18, dtype=torch.float64) + 0.5) * 7 / 18
    expected = F.interpolate(row, size=18, mode="linear", align_corners=False)
    torch.testing.assert_close(linear_weights(places, 7) @ row[0, 0], expected[0, 0])


def test_places_between_and_beyond_the_centers_are_weighed_as_by_hand():
    weights = linear_weights(torch.tensor([0.0, 0.5, 1.25, 3.0, 9.0]), 3)
    assert weights.tolist() == [[1, 0, 0], [1, 0, 0], [0.25, 0.75, 0], [0, 0, 1], [0, 0, 1]]


def test_patch_centers_are_in_pixels_of_the_image(tiny):
    small = load_backbone("tiny:patch=8")
    rows, cols = patch_centers(bare(tiny, (60, 33)))  # padded by 2 above, and by 7 of 15 to the left
    assert rows.tolist() == [6, 22, 38, 54]
    assert cols.tolist() == [1, 17, 33]
    rows, cols = patch_centers(bare(small, (120, 66)), like=bare(tiny, (60, 33)))  # 66 is padded by 3 of 6 to the left
    assert rows[:2].tolist() == [2, 6]
    assert cols[:2].tolist() == [0.5, 4.5]


def test_places_in_patches_undo_the_centers(tiny):
    stock = bare(tiny, (60, 33))
    rows, cols = in_patches(stock, *patch_centers(stock))
    assert rows.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert cols.tolist() == [0.5, 1.5, 2.5]


def test_grids_over_the_same_pixels_are_resized_as_torch_does(tiny):
    first, second = bare(tiny, (64, 96)), bare(load_backbone("tiny:patch=8"), (64, 96))
    patches = torch.randn(1, 24, 5, generator=torch.Generator().manual_seed(0))
    maps = first.layout.to_map(patches).permute(0, 3, 1, 2)
    expected = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False).flatten(2).mT
    torch.testing.assert_close(onto_grid(patches, first, second), expected)


@pytest.mark.parametrize("size", [(60, 90), (64, 100), (61, 85)])
def test_a_slope_over_the_image_is_read_at_the_right_pixels_whatever_the_padding(tiny, size):
    first, second = bare(tiny, size), bare(load_backbone("tiny:patch=8"), size)

    def slope(stock: Activations) -> torch.Tensor:
        rows, cols = patch_centers(stock)
        return (3 * rows[:, None] - 2 * cols).float().reshape(1, -1, 1)

    read = second.layout.to_map(onto_grid(slope(first), first, second))
    expected = second.layout.to_map(slope(second))
    torch.testing.assert_close(read[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=1e-3, rtol=0)


def test_reading_a_grid_at_its_own_centers_changes_nothing(tiny):
    stock = bare(tiny, (50, 70))
    patches = torch.randn(1, stock.layout.count, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(onto_grid(patches, stock, stock), patches)
