"""timm vision transformers: `timm:NAME` with timm's published weights, `timm:NAME@FILE` with a file of your own."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, final

import timm
import torch
from timm.models import vision_transformer
from torch import Tensor, nn

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.positional import Positional
from diagnostics.backbones.timm_tower import TimmTower
from diagnostics.backbones.transformers_names import instead_for
from diagnostics.backbones.weights import fill, read_checkpoint
from diagnostics.layout import Layout
from diagnostics.registry import UnknownName

# The backbone


@final
class TimmBackbone(Backbone):
    """A timm vision transformer. `backbone(images)` is the stock model's output: logits, or the pooled feature."""

    def __init__(
        self, model: nn.Module, spec: str, *, mean: Sequence[float], std: Sequence[float], note: str = ""
    ) -> None:
        self.tower = TimmTower(model, spec)
        super().__init__(
            spec=spec,
            model=model,
            blocks=self.tower.blocks,
            width=self.tower.width,
            patch_size=self.tower.patch_size,
            native_size=self.tower.native_size,
            prefix=self.tower.prefix,
            class_index=self.tower.class_index,
            mean=mean,
            std=std,
            positions=self.tower.positions,  # what timm itself does for other sizes
            table_grid=self.tower.table_grid,
            note=note,
        )

    def embed_patches(self, images: Tensor) -> Tensor:
        return self.tower.embed_patches(images)

    def position_table(self) -> tuple[Tensor, int] | None:
        return self.tower.position_table()

    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        return self.tower.assemble(patches, positions)

    def positional(self, layout: Layout) -> Sequence[Positional | None]:
        return self.tower.positional(layout)

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens in the space of the classifier's rows, before the classifier: (B, T, D) -> (B, T, D)."""
        return self.tower.dense(tokens, pre_logits=True)

    def pool(self, tokens: Tensor) -> Tensor:
        """The stock output: logits (B, C) if there is a classifier, else the pooled feature (B, D)."""
        return self.tower.pool(tokens)

    def pool_features(self, tokens: Tensor) -> Tensor:
        """The pooled feature, what enters the classifier: (B, D)."""
        return self.tower.pool(tokens, pre_logits=True)

    @property
    def has_classifier(self) -> bool:
        return isinstance(self.tower.trunk.head, nn.Linear)

    def class_head(self) -> Tensor:
        """Rows of the classifier, bias left out: (C, D). The mean of both heads for a distilled model.

        A model without a head raises ValueError. timm keeps the joint projection of its CLIP towers in the same place:
        their rows are no classes.
        """
        trunk = self.tower.trunk
        if not self.has_classifier:
            return super().class_head()
        if self.tower.distilled:
            return (trunk.head.weight + trunk.head_dist.weight) / 2
        return trunk.head.weight


def timm_backbone(
    model: nn.Module,
    spec: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    note: str = "",
) -> TimmBackbone:
    """A backbone over a timm model that is already built. Mean and std are the model's own unless given.

    The model is put into eval mode and its weights are frozen; they are not changed. Raises ValueError for a model that
    can't run, and for one without a `pretrained_cfg` (built from its class) when mean or std is not given.

    Parameters
    ----------
    model : timm.models.vision_transformer.VisionTransformer
        A built model.
    spec : str
        The name that it has in results.
    mean, std : sequence of 3 floats, or None
        Normalization of RGB in [0, 1]; None takes the model's own.
    note : str
        What a reader should know of the weights.

    Returns
    -------
    Backbone
        The same weights under taps.

    Raises
    ------
    ValueError
        For a model that the blocks can not run, and if mean or std is missing.

    Examples
    --------
    >>> from timm.models.vision_transformer import VisionTransformer
    >>> import attention_outliers as ao
    >>> model = VisionTransformer(img_size=32, patch_size=16, embed_dim=12, depth=2, num_heads=2, num_classes=0)
    >>> ao.timm_backbone(model, "mine", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).depth
    2
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    mean, std = mean or config.get("mean"), std or config.get("std")
    if mean is None or std is None:
        TimmTower(model, spec)  # a model that can't run is refused first
        raise ValueError(
            f"`{spec}` does not say how its images are normalized (no pretrained_cfg); give it: "
            "timm_backbone(model, spec, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))."
        )
    return TimmBackbone(model, spec, mean=mean, std=std, note=note)


# Loading


def load_timm(argument: str) -> TimmBackbone:
    """timm's ViTs: timm:vit_base_patch16_224.dino, or a local file: timm:vit_base_patch16_224.dino@FILE

    `vit_base_patch16_224.dino` takes timm's published weights (downloaded, or from its cache);
    `vit_tiny_patch16_224@weights.safetensors` takes a local file instead and needs no network. The tag after the dot
    says which weights, and so which mean and std: give it with a file as well. A file may have any number of classes,
    none included, another image size, and the layouts that timm reads (original DINOv2, DeiT-III …); the backbone's
    `note` tells what was adapted.

    Raises ValueError for an unknown name (with the near ones), a tag under an architecture with another activation
    (with the right name), a model that can't run, and a file that does not fit;
    OSError for weights that can't be fetched.
    """
    name, at, path = argument.strip().partition("@")
    _check_name(name)
    _check_activation(name, named_only=bool(at))
    # The skeleton tells before any download or reading whether the model runs at all.
    skeleton = meta_model(name)
    TimmTower(skeleton, f"timm:{name}")
    spec = f"timm:{argument.strip()}"
    if not at:
        return timm_backbone(_download(name), spec)
    model, note = _from_file(name, path, skeleton)
    return timm_backbone(model, spec, note=note)


def _check_name(name: str) -> None:
    if ":" in name or "/" in name:
        raise ValueError(
            f"`{name}` should be one of timm's own names, such as `vit_base_patch16_224.dino`. "
            "For a model on the hub write `hf-hub:org/name` without `timm:`; for a file `timm:NAME@FILE`."
        )
    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models()
    elif dot and name not in (tagged := timm.models.get_arch_pretrained_cfgs(architecture)):
        known = [str(tag) for tag in tagged]
    else:
        return
    # Not all of them, as elsewhere: timm has more than a thousand.
    near = difflib.get_close_matches(name, known, n=6, cutoff=0.5)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    others = f" Also near: {', '.join(near[1:])}." if near[1:] else ""
    raise UnknownName(f"there is no timm model `{name}`.{hint}{others} All of them: timm.list_models('vit*').")


def _check_activation(name: str, *, named_only: bool) -> None:
    """Refuses a tag whose weights were trained with QuickGELU under an architecture that has GELU.

    timm lists such weights under both architectures; fine-tuned ones, which GELU suits, under the plain one only.
    `named_only` leaves out timm's default tag, of which a file knows nothing.
    """
    architecture, _, tag = name.partition(".")
    quick = architecture.replace("_clip_", "_clip_quickgelu_")
    if not tag and not named_only:
        config = timm.models.get_pretrained_cfg(name)
        tag = str(config.tag) if config is not None and config.tag else ""
    if quick == architecture or not tag or not timm.is_model(quick):
        return
    if f"{quick}.{tag}" in timm.models.get_arch_pretrained_cfgs(quick):
        raise ValueError(
            f"the weights `{tag}` were trained with QuickGELU, but timm's `{architecture}` has GELU: features would "
            f"be silently wrong. Use `timm:{quick}.{tag}`."
        )


def meta_model(name: str) -> nn.Module:
    """The architecture, if possible without memory for its weights."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False)
    except (RuntimeError, NotImplementedError):  # older timm reads numbers off its tensors while building
        return timm.create_model(name, pretrained=False)


def _download(name: str) -> nn.Module:
    config = timm.models.get_pretrained_cfg(name)
    if config is not None and not config.has_weights:
        raise ValueError(f"timm has no published weights for `{name}`; give it a file: `timm:{name}@FILE`.")
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client, the download and the cache fail in many ways
        raise OSError(
            f"could not fetch the weights of `{name}` ({type(error).__name__}: {error}). Check the connection, or "
            f"give the weights as a file: `timm:{name}@FILE` (.safetensors, or .pt with tensors only)."
        ) from error


def _from_file(name: str, path: str, skeleton: Any) -> tuple[nn.Module, str]:
    raw, chosen = read_checkpoint(path)
    state, note = _adapt(name, path, raw, skeleton)
    classes = len(state["head.weight"]) if "head.weight" in state else 0
    # Fine-tuned on the mean of the patches (MAE): the last norm stands behind the mean, and says so by its name.
    pooled = {"fc_norm.weight", "norm.weight"} & state.keys() == {"fc_norm.weight"} and skeleton.global_pool == "token"
    pooling: dict[str, Any] = {"global_pool": "avg"} if pooled else {}
    pooling_note = "pools the mean of the patches, as the file's fc_norm says" if pooled else ""
    model = timm.create_model(name, pretrained=False, num_classes=classes, **pooling)
    instead = "Name the architecture that the file was made with; timm.list_models('vit*') lists them."
    fill(model, state, spec=f"timm:{name}@{path}", instead=instead_for(raw, instead))
    return model, joined_notes(chosen, note, pooling_note)


def _own_filter(skeleton: nn.Module, settings: Mapping[str, Any]) -> Callable[..., dict[str, Tensor]]:
    """timm's own reader of other layouts for a model's class, with those of the settings that it knows."""
    plain = vision_transformer.checkpoint_filter_fn
    reader = getattr(sys.modules[type(skeleton).__module__], "checkpoint_filter_fn", plain)
    known = inspect.signature(reader).parameters
    return partial(reader, **{key: value for key, value in settings.items() if key in known})


def _check_patches(name: str, path: str, raw: Mapping[str, Tensor], skeleton: Any) -> None:
    """Refuses a file whose patches have another shape: stretching their kernels would be another network."""
    kernel = raw.get("patch_embed.proj.weight")
    if not hasattr(skeleton, "patch_embed"):  # NaFlex reads a patch as a row of pixels
        return
    height, width = skeleton.patch_embed.patch_size
    if kernel is not None and kernel.ndim == 4 and kernel.shape[2] * width != kernel.shape[3] * height:
        raise ValueError(
            f"`{path}` was made with patches of {kernel.shape[3]}x{kernel.shape[2]} pixels, and `timm:{name}` has "
            f"{width}x{height}: stretching them to another shape makes another network. Name an architecture with the "
            "file's patches."
        )


def _adapt(name: str, path: str, raw: Mapping[str, Tensor], skeleton: Any) -> tuple[dict[str, Tensor], str]:
    """The file's tensors under timm's names and at the model's size, and what had to change, in words."""
    if any(key.startswith("radio_model.") for key in raw):
        raise ValueError(
            f"`{path}` is in RADIO's own layout, whose positions depend on the version; export the timm model's "
            f"state dict and give that file: `timm:{name}@FILE`."
        )
    _check_patches(name, path, raw, skeleton)
    # FlexiViT's patch kernels and positions were trained to be stretched bilinearly; timm's loader does the same.
    stretch: dict[str, Any] = {"interpolation": "bilinear", "antialias": False} if "flexi" in name else {}
    try:
        state = _own_filter(skeleton, {"adapt_layer_scale": True, **stretch})(dict(raw), skeleton)
    except (RuntimeError, ValueError, KeyError, AttributeError):
        state = dict(raw)  # timm stumbled over the shapes; the comparison that follows names them better
    changed = [
        f"{key} {tuple(raw[key].shape)} -> {tuple(state[key].shape)}"
        for key in ("pos_embed", "patch_embed.proj.weight")
        if key in raw and key in state and raw[key].shape != state[key].shape
    ]
    notes = [f"adapted to the model's size: {', '.join(changed)}"] if changed else []
    if "head.weight" not in state:
        notes.append("the file has no classifier head")
    return state, "; ".join(notes)
