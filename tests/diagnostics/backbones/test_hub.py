import json
import logging

import huggingface_hub
import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from diagnostics.backbones import BACKBONES, load_backbone
from diagnostics.backbones.tiny import randomize
from diagnostics.studies.probe import probe

CLIP = {
    "embed_dim": 40,
    "quick_gelu": True,
    "vision_cfg": {"layers": 2, "width": 48, "head_width": 24, "patch_size": 16, "image_size": 64},
    "text_cfg": {"layers": 1, "width": 8, "heads": 2},
}
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
IMAGES = {"mean": MEAN, "std": STD}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's cache, without network: hub(repository, files) lays a repository into it as the hub's client does."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def put(repository, *, branch="main", commit="0123abc", **files):
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        fill(folder / "snapshots" / commit, **files)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / branch).write_text(commit)

    return put


def fill(folder, **files):
    """A folder with `NAME=(SUFFIX, content)`: JSON for a dict, weights for a model."""
    folder.mkdir(parents=True)
    for name, (suffix, content) in files.items():
        path = folder / f"{name}.{suffix}"
        if isinstance(content, torch.nn.Module):
            save_file(content.state_dict(), path)
        else:
            path.write_text(json.dumps(content) if isinstance(content, dict) else content)


@pytest.fixture(scope="module")
def clip():
    model = open_clip.CLIP(**CLIP).eval()
    randomize(model, seed=6)
    return model


@pytest.fixture(scope="module")
def vit():
    model = timm.create_model("test_vit", num_classes=10).eval()
    randomize(model, seed=7)
    return model


def clip_files(clip):
    config = {"model_cfg": CLIP, "preprocess_cfg": IMAGES}
    return {"open_clip_config": ("json", config), "open_clip_model": ("safetensors", clip)}


def vit_files(vit):
    config = {"input_size": [3, 160, 160], "fixed_input_size": True, "num_classes": 10, **IMAGES}
    return {
        "config": ("json", {"architecture": "test_vit", "num_classes": 10, "pretrained_cfg": config}),
        "model": ("safetensors", vit),
    }


def images(side):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def is_the_clip(backbone, clip):
    with torch.no_grad():
        assert (backbone(images(64)) - clip.encode_image(images(64))).abs().max() <= 1e-5
        texts = clip.encode_text(open_clip.SimpleTokenizer()(["a cat"]))
    assert (backbone.encode_text(["a cat"]) - texts).abs().max() <= 1e-5
    assert (backbone.mean, backbone.std) == (tuple(MEAN), tuple(STD))


def is_the_vit(backbone, vit):
    with torch.no_grad():
        assert (backbone(images(160)) - vit(images(160))).abs().max() <= 1e-5
    assert (backbone.mean, backbone.std) == (tuple(MEAN), tuple(STD))
    assert backbone.class_head().shape[0] == 10


def test_a_repository_of_open_clip_comes_with_its_text_tower(hub, clip):
    hub("org/clip", **clip_files(clip))
    backbone = load_backbone("hf-hub:org/clip")
    is_the_clip(backbone, clip)
    assert backbone.spec == "hf-hub:org/clip"


def test_a_repository_of_timm_comes_with_its_classifier(hub, vit):
    hub("org/vit", **vit_files(vit))
    backbone = load_backbone("hf-hub:org/vit")
    is_the_vit(backbone, vit)
    assert backbone.spec == "hf-hub:org/vit"


@pytest.mark.parametrize("named", ["old", "4" * 40])
def test_a_revision_is_loaded_with_its_own_weights(hub, clip, vit, named):
    newer, newer_vit = open_clip.CLIP(**CLIP).eval(), timm.create_model("test_vit", num_classes=10).eval()
    for repository, files, new in (
        ("org/clip", clip_files(clip), clip_files(newer)),
        ("org/vit", vit_files(vit), vit_files(newer_vit)),
    ):
        hub(repository, commit="8" * 40, **new)
        hub(repository, branch="old", commit="4" * 40, **files)
    backbone = load_backbone(f"hf-hub:org/clip@{named}")
    is_the_clip(backbone, clip)
    assert (backbone.spec, backbone.revision) == (f"hf-hub:org/clip@{named}", "4" * 40)
    backbone = load_backbone(f"hf-hub:org/vit@{named}")
    is_the_vit(backbone, vit)
    assert backbone.revision == "4" * 40
    with pytest.raises(AssertionError):
        is_the_clip(load_backbone("hf-hub:org/clip"), clip)
    assert load_backbone("hf-hub:org/vit").revision == "8" * 40


def test_the_commit_is_among_the_settings_of_a_run(hub, vit):
    hub("org/vit", commit="8" * 40, **vit_files(vit))
    run = probe(load_backbone("hf-hub:org/vit"), np.zeros((160, 160, 3), np.uint8), measures=["norms"], layers=[1])
    assert run.attrs["revision"] == "8" * 40
    assert "revision" not in probe(load_backbone("tiny"), np.zeros((9, 9, 3), np.uint8), measures=["norms"]).attrs


def test_a_revision_that_is_not_there_is_reported(hub, vit):
    hub("org/vit", **vit_files(vit))
    with pytest.raises(ValueError, match="`hf-hub:org/vit@none` are not here"):
        load_backbone("hf-hub:org/vit@none")


def test_a_repository_of_both_is_taken_with_the_text_tower(hub, clip, vit):
    hub("org/both", **clip_files(clip), **vit_files(vit))
    is_the_clip(load_backbone("hf-hub:org/both"), clip)


def test_a_folder_laid_out_like_a_repository_works_alike(tmp_path, clip, vit):
    fill(tmp_path / "clip", **clip_files(clip))
    fill(tmp_path / "vit", **vit_files(vit))
    is_the_clip(load_backbone(f"local-dir:{tmp_path}/clip"), clip)
    is_the_vit(load_backbone(f"local-dir:{tmp_path}/vit"), vit)


def test_what_is_not_in_the_cache_says_how_to_get_it(hub):
    with pytest.raises(ValueError, match=r"`hf-hub:org/far` .*hf download.*local-dir:.*open_clip:ARCHITECTURE@FILE"):
        load_backbone("hf-hub:org/far")


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_a_repository_without_its_weights_is_no_random_model(hub, clip, vit, kind):
    files = clip_files(clip) if kind == "clip" else vit_files(vit)
    hub("org/bare", **{name: file for name, file in files.items() if file[0] == "json"})
    with pytest.raises(ValueError, match=r"weights of `hf-hub:org/bare` are not here"):
        load_backbone("hf-hub:org/bare")


def test_a_repository_of_another_library_is_refused(hub):
    hub("org/bert", config=("json", {"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(ValueError, match=r"`hf-hub:org/bert` can.t run: its model_type is `bert`"):
        load_backbone("hf-hub:org/bert")


def test_an_unknown_repository_is_kept_apart_from_a_missing_network(monkeypatch):
    def unknown(*_, **__):
        import httpx

        response = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co"))
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=response)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unknown)
    with pytest.raises(ValueError, match="the hub has no repository `org/typo`"):
        load_backbone("hf-hub:org/typo")


def test_a_tower_that_cannot_be_run_is_refused_before_its_weights(hub):
    resnet = CLIP | {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 32, "image_size": 64}}
    hub("org/resnet", open_clip_config=("json", {"model_cfg": resnet}))
    with pytest.raises(ValueError, match=r"`hf-hub:org/resnet` has an image tower `ModifiedResNet`"):
        load_backbone("hf-hub:org/resnet")
    hub("org/conv", config=("json", {"architecture": "test_convnext", "pretrained_cfg": IMAGES}))
    with pytest.raises(ValueError, match=r"`hf-hub:org/conv` can't run.*ConvNeXt"):
        load_backbone("hf-hub:org/conv")


def test_an_architecture_that_timm_does_not_know_is_reported(hub):
    hub("org/new", config=("json", {"architecture": "vit_of_tomorrow", "pretrained_cfg": IMAGES}))
    with pytest.raises(ValueError, match=r"`hf-hub:org/new` could not be built: .*vit_of_tomorrow"):
        load_backbone("hf-hub:org/new")


def test_a_damaged_description_is_named(hub):
    hub("org/text", open_clip_config=("json", "no json"))
    with pytest.raises(ValueError, match=r"open_clip_config\.json` should be a JSON object"):
        load_backbone("hf-hub:org/text")
    hub("org/empty", open_clip_config=("json", {"preprocess_cfg": {}}))
    with pytest.raises(ValueError, match=r"of `hf-hub:org/empty` should hold `model_cfg`.*it holds preprocess_cfg"):
        load_backbone("hf-hub:org/empty")


@pytest.mark.parametrize(
    "spec", ["hf-hub:clip", "hf-hub:", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:a/b@../c", "hf-hub:a/b@c@d"]
)
def test_what_is_no_repository_name_is_refused(spec):
    with pytest.raises(ValueError, match="should read hf-hub:org/name"):
        load_backbone(spec)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds neither"):
        load_backbone(f"local-dir:{tmp_path}")
    with pytest.raises(ValueError, match="should name a folder"):
        load_backbone(f"local-dir:{tmp_path}/none")


def test_hub_names_under_another_family_are_put_right():
    with pytest.raises(ValueError, match="should read `hf-hub:org/name`"):
        load_backbone("open_clip:hf-hub:org/name")


def test_a_hub_that_does_not_answer_is_named_in_one_line(monkeypatch, caplog):
    client = logging.getLogger("huggingface_hub.utils._http")

    def unanswered(argument):
        for number in range(5):
            client.warning(f"'no such host' thrown while requesting HEAD {argument}")
            client.warning(f"Retrying in 1s [Retry {number}/5].")
        raise OSError("no hub")

    monkeypatch.setitem(BACKBONES._loaded, "hf-hub", unanswered)
    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="no hub"):
        load_backbone("hf-hub:org/name")
    assert [record.getMessage() for record in caplog.records] == [
        "The Hugging Face hub does not answer; trying again for some seconds."
    ]
    client.warning("another %s", "warning")  # outside, the client speaks as it does
    assert caplog.records[-1].getMessage() == "another warning"


# Encoders of pathology as their repositories are: arguments of the model in config.json, and what these do not say.
UNI = {
    "img_size": 28,
    "patch_size": 14,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 5.33334,
    "init_values": 1e-5,
    "reg_tokens": 3,
    "no_embed_class": True,
    "num_classes": 0,
    "dynamic_img_size": True,
}


@pytest.mark.parametrize("pool", [None, ""])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_arguments_of_the_model_gated_networks_and_registers_come_from_the_folder(tmp_path, pool, file):
    stock = timm.create_model(
        "vit_giant_patch14_224", **UNI, mlp_layer=timm.layers.SwiGLUPacked, act_layer=torch.nn.SiLU, global_pool="token"
    )
    randomize(stock.eval(), seed=9)
    arguments = UNI if pool is None else {**UNI, "global_pool": pool}
    config = {"architecture": "vit_giant_patch14_224", "model_args": arguments, "pretrained_cfg": {**IMAGES}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    if file.endswith("bin"):
        torch.save(stock.state_dict(), tmp_path / file)
    else:
        save_file(stock.state_dict(), tmp_path / file)
    backbone = load_backbone(f"local-dir:{tmp_path}")
    with torch.no_grad():
        assert (backbone(images(42)) - stock(images(42))).abs().max() <= 1e-5
    assert (backbone.prefix, backbone.mean) == (4, tuple(MEAN))
    assert "gated (SwiGLU), as the shapes of the weights say" in backbone.note
    assert ("by `token` (our choice)" in backbone.note) == (pool == "")
