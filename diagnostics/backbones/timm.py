"""timm vision transformers: `timm:NAME` with timm's published weights, `timm:NAME@FILE` with a file of your own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import timm
import torch
from timm import layers
from timm.models import deit, vision_transformer
from torch import Tensor, nn

from diagnostics.backbones.activation import activated
from diagnostics.backbones.base import Backbone, Block, join_heads
from diagnostics.backbones.weights import fill, read_weights
from diagnostics.registry import UnknownName

RUNS = (
    "What runs: timm's VisionTransformer and VisionTransformerDistilled of plain `Block`s (augreg, DeiT, DeiT-III, "
    "DINO, DINOv2, MAE, CLIP, SigLIP, AIMv2, BEiT-3 …), for example `timm:vit_base_patch16_224.dino`."
)

# Why a class that people do try is refused. A class that is not named here is refused as well, as unknown.
REASONS = {
    "ParallelScalingBlock": "attention and MLP run side by side on one projection: there is no block_sum between them",
    "DiffParallelScalingBlock": "attention and MLP run side by side, and attention is a difference of two softmaxes",
    "ParallelThingsBlock": "several attentions run side by side: there is no one attention matrix to a head",
    "ResPostBlock": "the norms stand after the branches, not before them",
    "DiffAttention": "attention is a difference of two softmaxes: its rows are not a distribution",
    "AttentionRope": "rotary positions turn queries and keys inside the attention",
    "Eva": "rotary positions turn queries and keys inside the attention",
    "Beit": "a relative position bias is added inside the attention",
    "VisionTransformerRelPos": "a relative position bias is added inside the attention",
    "VisionTransformerSAM": "attention is windowed, with relative positions inside it",
    "SwinTransformer": "attention is windowed and the grid shrinks between stages",
    "SwinTransformerV2": "attention is windowed and the grid shrinks between stages",
    "Hiera": "tokens are pooled between stages: they do not keep one grid",
    "NaFlexVit": "it takes packed sequences of patches, not images",
    "ConvNeXt": "it is a convolutional network: it has no tokens",
    "ResNet": "it is a convolutional network: it has no tokens",
    "HybridEmbed": "a convolutional network stands before the patches",
}


def _refuse(name: str, part: str, thing: object) -> ValueError:
    kind = type(thing).__name__
    reason = REASONS.get(kind, "its forward pass is not known here, and an unknown one is not guessed")
    return ValueError(f"`{name}` can't run: its {part} is `{kind}`: {reason}. {RUNS}")


# Blocks


def _mlp_hidden(mlp: Any, x: Tensor) -> Tensor:
    return mlp.norm(activated(mlp.act, mlp.fc1(x)))


def _glu_hidden(mlp: Any, x: Tensor) -> Tensor:
    first, second = mlp.fc1(x).chunk(2, dim=-1)
    return mlp.norm(first * mlp.act(second) if mlp.gate_last else mlp.act(first) * second)


def _swiglu_hidden(mlp: Any, x: Tensor) -> Tensor:
    return mlp.norm(mlp.act(mlp.fc1_g(x)) * mlp.fc1_x(x))


# What enters the last linear map, for each kind of feed-forward network.
HIDDEN: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    layers.Mlp: _mlp_hidden,
    layers.GluMlp: _glu_hidden,
    layers.SwiGLU: _swiglu_hidden,
}


@final
class TimmBlock(Block):
    """timm's pre-norm `Block`: q/k norm, scale norms, output gate and layer scale where the model has them.

    `ffn_hidden` is what enters the last linear map: (B, T, F), after the activation; for a gated network the gated
    product (F is the width after gating), and after the norm on it, if any.
    """

    def __init__(self, block: Any, name: str) -> None:
        if type(block) is not vision_transformer.Block:
            raise _refuse(name, "block", block)
        if type(block.attn) is not layers.Attention:
            raise _refuse(name, "attention", block.attn)
        if type(block.mlp) not in HIDDEN or not isinstance(block.mlp.fc2, nn.Linear):
            raise _refuse(name, "feed-forward network", block.mlp)
        self.block: Any = block
        self.attn: Any = block.attn
        self.mlp: Any = block.mlp
        self.heads: int = block.attn.num_heads
        self.hidden: Callable[[Any, Tensor], Tensor] = HIDDEN[type(block.mlp)]

    def norm(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.attn.qkv(normed).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.attn.q_norm(q), self.attn.k_norm(k), v

    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        merged = self.attn.norm(join_heads(mixed))
        gate = getattr(self.attn, "gate", None)  # newer timm only
        if gate is not None:
            merged = merged * gate(normed).sigmoid()
        return self.block.ls1(self.attn.proj(merged))

    def ffn_hidden(self, x: Tensor) -> Tensor:
        return self.hidden(self.mlp, self.block.norm2(x))

    def ffn_out(self, hidden: Tensor) -> Tensor:
        return self.block.ls2(self.mlp.fc2(hidden))


# The tower


@final
class TimmTower:
    """The steps of a timm `VisionTransformer`, over its stock modules, for any backbone that holds one.

    A trunk, block, attention, feed-forward network, patch embedding or pooling of a type that is not known here is
    refused by name with ValueError, so that nothing runs a little wrong. Dropout and stochastic depth are left out: the
    trunk is meant to be in eval mode.

    `native_size` is the grid in pixels. Where the model's own image size is no multiple of its patch (SigLIP So400m:
    384 with patch 14) the stock model drops the rest at the right and bottom; its native size here is 378.
    """

    def __init__(self, trunk: Any, name: str) -> None:
        if type(trunk) not in (vision_transformer.VisionTransformer, deit.VisionTransformerDistilled):
            raise _refuse(name, "type", trunk)
        if type(trunk.patch_embed) is not layers.PatchEmbed:
            raise _refuse(name, "patch embedding", trunk.patch_embed)
        # Refinement by attention among the patches, newer timm only.
        poolings = (type(None), layers.AttentionPoolLatent, getattr(layers, "AttentionPoolPrr", None))
        if type(trunk.attn_pool) not in poolings:
            raise _refuse(name, "pooling", trunk.attn_pool)
        if getattr(trunk.attn_pool, "pos_embed", None) is not None:
            raise ValueError(f"`{name}` can't run: its attention pooling has positions of its own, fixed to one size.")
        if not trunk.global_pool:
            raise ValueError(
                f"`{name}` pools nothing (global_pool=''), so it has no output for an image; choose a pooling: "
                "model.reset_classifier(0, global_pool='token'), or 'avg' without a class token."
            )
        if trunk.patch_embed.proj.in_channels != 3:
            raise ValueError(
                f"`{name}` should take RGB images; it takes {trunk.patch_embed.proj.in_channels} channels."
            )

        self.trunk, self.name = trunk, name
        self.blocks: list[Block] = [TimmBlock(block, name) for block in trunk.blocks]
        self.width: int = trunk.embed_dim
        rows, cols = trunk.patch_embed.grid_size
        height, width = trunk.patch_embed.patch_size
        self.patch_size: tuple[int, int] = (height, width)
        self.native_size: tuple[int, int] = (rows * height, cols * width)
        self.distilled = type(trunk) is deit.VisionTransformerDistilled
        self.prefix = sum(token.shape[1] for token in self._prefix_tokens())
        self.class_index = 0 if trunk.cls_token is not None else None

        positions = self.position_table()
        if positions is not None and positions[0].shape[0] != positions[1] + rows * cols:
            raise ValueError(
                f"`{name}` should have {positions[1]} + {rows}x{cols} positions; it has {positions[0].shape[0]}. "
                "The stock model can't run either: weights and architecture disagree."
            )

    def _prefix_tokens(self) -> list[Tensor]:
        trunk = self.trunk
        # The distilled model ignores registers.
        tokens = (trunk.cls_token, trunk.dist_token if self.distilled else trunk.reg_token)
        return [token for token in tokens if token is not None]

    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch embedding and its norm, if any: (B, 3, h, w), whole patches -> (B, N, D)."""
        # The parts, not the whole module, which insists on one image size and may hand back a grid.
        embed = self.trunk.patch_embed
        return embed.norm(embed.proj(images).flatten(2).mT)

    def position_table(self) -> tuple[Tensor, int] | None:
        """The learned positions (prefix' + N, D) and prefix', the rows for prefix tokens (often 0); None if none."""
        if self.trunk.pos_embed is None:
            return None
        return self.trunk.pos_embed[0], 0 if self.trunk.no_embed_class else self.prefix

    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        """Positions added, prefix tokens joined, and the norm before the blocks, if any: (B, N, D) -> (B, T, D)."""
        patches_only = self.trunk.no_embed_class
        if positions is not None and patches_only:
            patches = patches + positions
        prefix = [token.expand(len(patches), -1, -1) for token in self._prefix_tokens()]
        tokens = torch.cat([*prefix, patches], dim=1)
        if positions is not None and not patches_only:
            tokens = tokens + positions
        return self.trunk.norm_pre(tokens)

    def final_norm(self, tokens: Tensor) -> Tensor:
        """The norm after the blocks; none where the model norms after pooling: (B, T, D) -> (B, T, D)."""
        return self.trunk.norm(tokens)

    def pool(self, tokens: Tensor, *, pre_logits: bool = False) -> Tensor:
        """The stock output for the image: tokens that leave the last block (B, T, D) -> (B, D').

        D' is the head's width, or D without a head or with `pre_logits`, which stops before it.
        """
        return self.trunk.forward_head(self.trunk.norm(tokens), pre_logits=pre_logits)

    def dense(self, tokens: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Each token brought where the pooled token is, as if it stood alone: (B, T, D) -> (B, T, D').

        Final norm, pooling of one token, norm after pooling, head. Mean and maximum of one token are the token. D' as
        for `pool`. Our choice: attention pooling (SigLIP) pools each token as a sequence of one, so its weight is 1 and
        what is left are the value, output and MLP maps; the distilled model gives each token the mean of its two heads.
        """
        trunk = self.trunk
        tokens = trunk.norm(tokens)
        if trunk.attn_pool is not None:
            tokens = trunk.attn_pool(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])
        if self.distilled:  # its head knows no norm after pooling
            return tokens if pre_logits else (trunk.head(tokens) + trunk.head_dist(tokens)) / 2
        tokens = trunk.fc_norm(tokens)
        return tokens if pre_logits else trunk.head(tokens)


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
            positions="bicubic-antialiased",  # what timm itself does for other sizes
            note=note,
        )

    def embed_patches(self, images: Tensor) -> Tensor:
        return self.tower.embed_patches(images)

    def position_table(self) -> tuple[Tensor, int] | None:
        return self.tower.position_table()

    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        return self.tower.assemble(patches, positions)

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
    skeleton = _skeleton(name)
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


def _skeleton(name: str) -> nn.Module:
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


def _from_file(name: str, path: str, skeleton: nn.Module) -> tuple[nn.Module, str]:
    raw = read_weights(path)
    state, note = _adapt(name, path, raw, skeleton)
    classes = len(state["head.weight"]) if "head.weight" in state else 0
    model = timm.create_model(name, pretrained=False, num_classes=classes)
    instead = "Name the architecture that the file was made with; timm.list_models('vit*') lists them."
    fill(model, state, spec=f"timm:{name}@{path}", instead=instead)
    return model, note


def _adapt(name: str, path: str, raw: Mapping[str, Tensor], skeleton: Any) -> tuple[dict[str, Tensor], str]:
    """The file's tensors under timm's names and at the model's size, and what had to change, in words."""
    if any(key.startswith("radio_model.") for key in raw):
        raise ValueError(
            f"`{path}` is in RADIO's own layout, whose positions depend on the version; export the timm model's "
            f"state dict and give that file: `timm:{name}@FILE`."
        )
    # FlexiViT's patch kernels and positions were trained to be stretched bilinearly; timm's loader does the same.
    stretch: dict[str, Any] = {"interpolation": "bilinear", "antialias": False} if "flexi" in name else {}
    try:
        state = vision_transformer.checkpoint_filter_fn(dict(raw), skeleton, adapt_layer_scale=True, **stretch)
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
