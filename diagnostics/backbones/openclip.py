"""open_clip models: plain ViT towers, ViT towers from timm (SigLIP), and their text towers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diagnostics.backbones.activation import activated
from diagnostics.backbones.base import Backbone, Block, join_heads, split_heads
from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.positional import Positional
from diagnostics.backbones.transformers_names import instead_for
from diagnostics.backbones.weights import fill, read_checkpoint
from diagnostics.layout import Layout
from diagnostics.registry import UnknownName, unknown_name

QUICK = "-quickgelu"
INSTEAD = "Use a plain ViT, for example `open_clip:ViT-B-16-quickgelu/openai` or `open_clip:ViT-B-16-SigLIP/webli`."
# Texts that go through the text tower at once, so that long lists need little memory: our choice.
TEXT_BATCH = 256
# Entries of OpenAI's published files that are no weights.
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


@final
class OpenClipBlock(Block):
    """Both of open_clip's block kinds: `ResidualAttentionBlock` and `CustomResidualAttentionBlock`.

    What only one of them has (norms of queries, keys, mixed values, attention output and hidden units; a scale per
    head; a layer scale) is the identity, or absent, in the other.
    """

    def __init__(self, block: Any) -> None:
        nothing = nn.Identity()
        self.block, self.attention = block, block.attn
        self.heads = block.attn.num_heads
        self.query_norm = getattr(block.attn, "ln_q", nothing)
        self.key_norm = getattr(block.attn, "ln_k", nothing)
        self.mixed_norm = getattr(block.attn, "ln_inner", nothing)
        self.output_norm = getattr(block, "ln_attn", nothing)
        self.hidden_norm = getattr(block.mlp, "ln", nothing)

    def norm(self, x: Tensor) -> Tensor:
        return self.block.ln_1(x)

    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joint = F.linear(normed, self.attention.in_proj_weight, self.attention.in_proj_bias)
        q, k, v = (split_heads(part, self.heads) for part in joint.chunk(3, dim=-1))
        return self.query_norm(q), self.key_norm(k), v

    def project_values(self, normed: Tensor) -> Tensor:
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        rows = slice(-(len(weight) // 3), None)
        return split_heads(F.linear(normed, weight[rows], None if bias is None else bias[rows]), self.heads)

    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        scale = getattr(self.attention, "head_scale", None)
        if scale is not None:
            mixed = mixed * scale
        merged = self.attention.out_proj(self.mixed_norm(join_heads(mixed)))
        return self.block.ls_1(self.output_norm(merged))

    def ffn_hidden(self, x: Tensor) -> Tensor:
        return activated(self.block.mlp.gelu, self.block.mlp.c_fc(self.block.ln_2(x)))

    def ffn_out(self, hidden: Tensor) -> Tensor:
        return self.block.ls_2(self.block.mlp.c_proj(self.hidden_norm(hidden)))


# Times the context within which a text is looked at to see whether it is cut. Our choice.
LONGER = 4


@final
class TextTower:
    """The stock text tower behind its tokenizer, which is made at the first call, since it may need a download."""

    def __init__(self, model: Any, make_tokenizer: Callable[[], Any], spec: str) -> None:
        self.model, self.make_tokenizer, self.spec = model, make_tokenizer, spec
        self._tokenizer: Any = None

    def __call__(self, texts: Sequence[str], device: torch.device) -> Tensor:
        """C texts -> (C, E), not normalized."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"`texts` should be a list of strings; got {texts!r}. Wrap a single text: [text].")
        if not texts:
            raise ValueError("`texts` should hold at least one text; got none.")
        tokens = self.tokenizer(list(texts)).to(device)
        # CoCa normalizes unless it is asked not to; the others do not.
        return torch.cat([self.model.encode_text(part, normalize=False) for part in tokens.split(TEXT_BATCH)])

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """C texts -> the numbers of each, as many as the context is long."""
        return self._pieces(texts)

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """Whether a longer context gives a text other numbers: where it is cut, the end moves."""
        rows = self.tokens(texts)
        try:
            whole = self._pieces(texts, context_length=LONGER * len(rows[0]))
        except TypeError:  # a tokenizer of somebody's own, which has one length
            return [False] * len(texts)
        return [row != longer[: len(row)] for row, longer in zip(rows, whole, strict=True)]

    def _pieces(self, texts: Sequence[str], **context: int) -> list[list[int]]:
        """Tokens by which texts differ: the tokenizer's, unless it has others for that."""
        pieces = getattr(self.tokenizer, "pieces", self.tokenizer)
        return list(pieces(list(texts), **context).tolist())

    @property
    def tokenizer(self) -> Any:
        """Texts to tokens; made when it is asked for first."""
        if self._tokenizer is None:
            self._tokenizer = self._make_tokenizer()
        return self._tokenizer

    def _make_tokenizer(self) -> Any:
        try:
            return self.make_tokenizer()
        except Exception as error:  # transformers, the hub and the disk each fail in their own way
            raise ValueError(
                f"the tokenizer of `{self.spec}` could not be made: {first_line(error)}. It may need `pip install "
                "transformers sentencepiece`, and the network once to fetch its vocabulary. The image tower works "
                "without it."
            ) from error


@final
class OpenClipBackbone(Backbone):
    """A model whose image tower is open_clip's own `VisionTransformer`."""

    def __init__(self, model: Any, *, spec: str, text: TextTower | None, **fields: Any) -> None:
        visual = model.visual
        super().__init__(
            spec=spec,
            model=model,
            blocks=[OpenClipBlock(block) for block in visual.transformer.resblocks],
            width=visual.transformer.width,
            patch_size=tuple(visual.patch_size),
            # Whole patches: open_clip drops what is left over at the right and bottom.
            native_size=(visual.grid_size[0] * visual.patch_size[0], visual.grid_size[1] * visual.patch_size[1]),
            prefix=1,
            class_index=0,
            **fields,
        )
        self.visual, self.text = visual, text

    def embed_patches(self, images: Tensor) -> Tensor:
        return self.visual.conv1(images).flatten(2).mT

    def position_table(self) -> tuple[Tensor, int]:
        return self.visual.positional_embedding, 1

    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        tokens = torch.cat([self.visual.class_embedding.expand(patches.shape[0], 1, -1), patches], dim=1)
        return self.visual.ln_pre(tokens if positions is None else tokens + positions)

    def project(self, tokens: Tensor) -> Tensor:
        """Final norm and projection of every token: (B, T, D) -> (B, T, E).

        Behind an attentional pool (CoCa) each token passes the pool as if it were alone there: its value and
        out-projections, which the single attention weight of 1 leaves as they are.
        """
        pool = self.visual.attn_pool
        if pool is not None:
            alone = pool.ln_k(tokens).flatten(0, 1).unsqueeze(1)
            query = pool.ln_q(pool.query[:1]).expand(alone.shape[0], 1, -1)
            tokens = pool.attn(query, alone, alone, need_weights=False)[0].reshape(*tokens.shape[:2], -1)
        return self._into_joint_space(self.visual.ln_post(tokens))

    def pool(self, tokens: Tensor) -> Tensor:
        if self.visual.attn_pool is not None:
            return self._into_joint_space(self._select(self.visual.ln_post(self.visual.attn_pool(tokens))))
        if self.visual.final_ln_after_pool:
            return self._into_joint_space(self.visual.ln_post(self._select(tokens)))
        return self._into_joint_space(self._select(self.visual.ln_post(tokens)))

    def _select(self, tokens: Tensor) -> Tensor:
        return tokens[:, 1:].mean(dim=1) if self.visual.pool_type == "avg" else tokens[:, 0]

    def _into_joint_space(self, tokens: Tensor) -> Tensor:
        return tokens if self.visual.proj is None else tokens @ self.visual.proj

    @property
    def has_text(self) -> bool:
        return self.text is not None

    @property
    def logit_scale(self) -> float | None:
        return _logit_scale(self.model)

    @property
    def logit_bias(self) -> float | None:
        bias = getattr(self.model, "logit_bias", None)
        return None if bias is None else float(bias.detach().float())

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return _encode_text(self.text, texts, self)

    def text_tokens(self, texts: Sequence[str]) -> list[list[int]] | None:
        return None if self.text is None else self.text.tokens(texts)

    def cut_texts(self, texts: Sequence[str]) -> list[bool]:
        return [False] * len(texts) if self.text is None else self.text.are_cut(texts)


@final
class OpenClipTimmBackbone(Backbone):
    """A model whose image tower is a timm `VisionTransformer`: SigLIP and its kin, with or without class token."""

    def __init__(self, model: Any, *, spec: str, text: TextTower | None, **fields: Any) -> None:
        from diagnostics.backbones.timm_tower import TimmTower

        tower = TimmTower(model.visual.trunk, spec)
        super().__init__(
            spec=spec,
            model=model,
            blocks=tower.blocks,
            width=tower.width,
            patch_size=tower.patch_size,
            native_size=tower.native_size,
            prefix=tower.prefix,
            class_index=tower.class_index,
            positions=tower.positions,
            table_grid=tower.table_grid,
            **fields,
        )
        self.tower, self.head, self.text = tower, model.visual.head, text

    def embed_patches(self, images: Tensor) -> Tensor:
        return self.tower.embed_patches(images)

    def position_table(self) -> tuple[Tensor, int] | None:
        return self.tower.position_table()

    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        return self.tower.assemble(patches, positions)

    def positional(self, layout: Layout) -> Sequence[Positional | None]:
        return self.tower.positional(layout)

    def project(self, tokens: Tensor) -> Tensor:
        """Final norm, pool and projection of every token as if it were alone: (B, T, D) -> (B, T, E)."""
        return self.head(self.tower.dense(tokens))

    def pool(self, tokens: Tensor) -> Tensor:
        return self.head(self.tower.pool(tokens))

    @property
    def has_text(self) -> bool:
        return self.text is not None

    @property
    def logit_scale(self) -> float | None:
        return _logit_scale(self.model)

    @property
    def logit_bias(self) -> float | None:
        bias = getattr(self.model, "logit_bias", None)
        return None if bias is None else float(bias.detach().float())

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return _encode_text(self.text, texts, self)

    def text_tokens(self, texts: Sequence[str]) -> list[list[int]] | None:
        return None if self.text is None else self.text.tokens(texts)

    def cut_texts(self, texts: Sequence[str]) -> list[bool]:
        return [False] * len(texts) if self.text is None else self.text.are_cut(texts)


def _logit_scale(model: Any) -> float | None:
    scale = getattr(model, "logit_scale", None)
    return None if scale is None else float(scale.detach().float().exp())


def _encode_text(text: TextTower | None, texts: Sequence[str], backbone: Backbone) -> Tensor:
    if text is None:
        raise ValueError(
            f"the weights of `{backbone.spec}` hold no text tower; load a file with both towers to describe classes "
            "in words."
        )
    return text(texts, backbone.device)


def clip_backbone(
    model: Any,
    *,
    spec: str,
    mean: Sequence[float],
    std: Sequence[float],
    make_tokenizer: Callable[[], Any] | None,
    note: str = "",
) -> Backbone:
    """The backbone over a stock open_clip model that is already filled with weights.

    `model` has a `visual` tower; `make_tokenizer` is None where it has no text tower. Raises ValueError that names
    what a tower has that our blocks cannot run.

    Parameters
    ----------
    model : open_clip.CLIP
        A built model.
    spec : str
        The name that it has in results.
    mean, std : sequence of 3 floats
        Normalization of RGB in [0, 1].
    make_tokenizer : callable or None
        Makes the tokenizer of the text tower; None where there is no text tower.
    note : str
        What a reader should know of the weights.

    Returns
    -------
    Backbone
        The same weights under taps, with `encode_text` where there is a text tower.

    Raises
    ------
    ValueError
        For a model that the blocks can not run.

    Examples
    --------
    >>> import open_clip
    >>> import attention_outliers as ao
    >>> vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    >>> model = open_clip.CLIP(16, vision_cfg=vision, text_cfg={"layers": 1, "width": 16, "heads": 2}).eval()
    >>> half = (0.5, 0.5, 0.5)
    >>> ao.clip_backbone(model, spec="mine", mean=half, std=half, make_tokenizer=open_clip.SimpleTokenizer).depth
    2
    """
    check_tower(model.visual, spec)
    text = make_tokenizer and TextTower(model, make_tokenizer, spec)
    kind = OpenClipTimmBackbone if hasattr(model.visual, "trunk") else OpenClipBackbone
    return kind(model, spec=spec, text=text, mean=mean, std=std, note=note)


def check_tower(visual: Any, spec: str) -> None:
    """Refuses by name an image tower that our blocks cannot run; passes over all others."""
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock, VisionTransformer

    if isinstance(visual, TimmModel):
        from diagnostics.backbones.timm_tower import TimmTower

        if hasattr(visual.head, "pool"):
            raise _cannot_run(spec, f"the pooling head `{type(visual.head.pool).__name__}`")
        try:
            TimmTower(visual.trunk, spec)
        except ValueError as error:  # what is nearest in timm has no text tower
            raise ValueError(f"{error} With a text tower: {INSTEAD}") from error
        return
    if not isinstance(visual, VisionTransformer):
        kind = type(visual).__name__
        reason = "a convolutional network, which has no tokens" if "ResNet" in kind else "not known here"
        raise _cannot_run(spec, f"an image tower `{kind}`, {reason}")
    if getattr(visual, "attn_pool_contrastive", None) is not None:
        raise _cannot_run(spec, f"the attentional pool `{visual.attn_pool_type}`")
    if visual.pool_type not in ("tok", "avg"):
        raise _cannot_run(spec, f"the pool `{visual.pool_type}`")
    for block in visual.transformer.resblocks:
        if type(block) not in (ResidualAttentionBlock, CustomResidualAttentionBlock) or hasattr(block, "ln_1_kv"):
            raise _cannot_run(spec, f"blocks `{type(block).__name__}`")
        if getattr(block.attn, "logit_scale", None) is not None:
            raise _cannot_run(spec, "scaled cosine attention, which open_clip itself cannot run on a ViT")


def _cannot_run(spec: str, what: str) -> ValueError:
    return ValueError(f"`{spec}` has {what}; an unknown forward pass is not guessed. {INSTEAD}")


def load_open_clip(argument: str) -> Backbone:
    """open_clip ViTs with their text towers: open_clip:ViT-B-16/openai, or a local file: open_clip:ViT-B-16@FILE

    QuickGELU is switched on exactly where the weights need it, as open_clip's list of weights says. A tag under an
    architecture with the other activation is refused with the right name. The `openai` tag always needs QuickGELU, so
    there both names work. A file does not say which activation it was trained with: it follows the architecture's
    name, so OpenAI's weights go under `ViT-B-16-quickgelu@FILE`, or `openai:FILE`; only OpenAI's own archives, which
    bear marks, are refused under a GELU name. A file's mean and std are those that all published weights of the
    architecture share, or else OpenAI's; a file without a text tower works for images.
    """
    import open_clip

    if argument.startswith(("hf-hub:", "local-dir:")):
        raise ValueError(f"`open_clip:{argument}` should read `{argument}`: hub and folders are families of their own.")
    architecture = re.split("[/@]", argument, maxsplit=1)[0]
    separator, weights = argument[len(architecture) :][:1], argument[len(architecture) + 1 :]
    if architecture not in open_clip.list_models():
        raise _unknown_architecture(architecture)
    if not weights:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise ValueError(
            f"`open_clip:{argument}` should name weights, open_clip:{architecture}/TAG with a tag of "
            f"{', '.join(tags) or 'none'}; or a local file, open_clip:{architecture}@FILE."
        )
    return _from_tag(architecture, weights) if separator == "/" else _from_file(architecture, weights)


def _unknown_architecture(name: str) -> UnknownName:
    import open_clip

    # The near ones only: open_clip has more than a hundred, many of them no ViTs.
    near = get_close_matches(name, open_clip.list_models(), n=6, cutoff=0.5)
    hint = f"Did you mean `{near[0]}`? " if near else ""
    others = f"Also near: {', '.join(near[1:])}. " if near[1:] else ""
    return UnknownName(
        f"there is no open_clip architecture `{name}`. {hint}{others}All of them: open_clip.list_models(); a spec "
        "reads open_clip:ViT-B-16/openai, or open_clip:ViT-B-16@FILE."
    )


def _from_tag(architecture: str, tag: str) -> Backbone:
    import open_clip

    spec = f"open_clip:{architecture}/{tag}"
    quick_gelu = _needs_quick_gelu(architecture, tag)
    config = open_clip.get_pretrained_cfg(architecture, tag)
    check_config(open_clip.get_model_config(architecture), spec)
    try:
        path = open_clip.download_pretrained(config)
    except Exception as error:  # whatever network, hub or disk have to say
        # A file takes its activation from the name, so here the name has to say it.
        quick = architecture.removesuffix(QUICK) + QUICK
        name = quick if quick_gelu and quick in open_clip.list_models() else architecture
        raise ValueError(
            f"the weights `{tag}` of `{architecture}` could not be fetched: {first_line(error)}. Without network, "
            f"fetch `{config.get('hf_hub') or config.get('url')}` elsewhere and name the file: open_clip:{name}@FILE."
        ) from error
    try:
        model = open_clip.create_model(architecture, pretrained=tag, force_quick_gelu=quick_gelu)
    except Exception as error:  # a download cut short fails in as many ways as there are file formats
        raise ValueError(
            f"the weights of `{spec}` could not be loaded from `{path}`: {first_line(error)}. Delete that file, so "
            "that it is fetched again."
        ) from error
    preprocess = open_clip.get_model_preprocess_cfg(model)
    return clip_backbone(
        model,
        spec=spec,
        mean=preprocess["mean"],
        std=preprocess["std"],
        make_tokenizer=lambda: open_clip.get_tokenizer(architecture),
    )


def _needs_quick_gelu(architecture: str, tag: str) -> bool:
    """Whether the weights of a tag need QuickGELU; an architecture with the other activation is refused."""
    import open_clip

    plain = architecture.removesuffix(QUICK)
    config = open_clip.get_pretrained_cfg(architecture, tag) or open_clip.get_pretrained_cfg(plain, tag)
    if not config:
        if Path(tag).expanduser().is_file():
            raise ValueError(f"`{tag}` is a file, no tag; name it so: open_clip:{architecture}@{tag}.")
        raise unknown_name(f"`{architecture}` weight tag", tag, open_clip.list_pretrained_tags_by_model(architecture))
    needed, built_in = bool(config.get("quick_gelu")), bool(open_clip.get_model_config(architecture).get("quick_gelu"))
    if needed == built_in or tag.lower() == "openai":
        return needed
    other = plain + QUICK if needed else plain
    if other == architecture or other not in open_clip.list_models():
        # The one architecture that open_clip has for these weights (RoBERTa's) states its own activation.
        return built_in
    raise ValueError(
        f"the weights `{tag}` were trained with {'QuickGELU' if needed else 'GELU'}, but `{architecture}` has "
        f"{'QuickGELU' if built_in else 'GELU'}: features would be silently wrong. Use `open_clip:{other}/{tag}`."
    )


def _from_file(architecture: str, path: str) -> Backbone:
    import open_clip

    spec = f"open_clip:{architecture}@{path}"
    config = open_clip.get_model_config(architecture)
    check_config(config, spec)
    weights, chosen = read_checkpoint(path)
    if weights.keys() >= set(NO_WEIGHTS) and not config.get("quick_gelu"):
        raise ValueError(
            f"`{path}` is one of OpenAI's own files, trained with QuickGELU, but `{architecture}` has GELU: features "
            f"would be silently wrong. Use `openai:{path}` or `open_clip:{architecture}{QUICK}@{path}`."
        )
    weights = {name: value for name, value in weights.items() if name not in NO_WEIGHTS}
    size = _image_size(config, weights)
    config["vision_cfg"].update(size)
    if "logit_bias" in weights:  # trained with the sigmoid loss, whatever the architecture's usual one
        config.setdefault("init_logit_bias", 0.0)
    model = _build(config, spec)
    if size and hasattr(model.visual, "trunk"):  # towers of timm take no size from the config
        model.visual.set_input_size(size["image_size"])
    weights = _in_layout_of(model, weights)
    two_towers = any(not name.startswith(("visual.", "logit_")) for name in weights)
    notes = [chosen, f"native size {size['image_size']}, as the file's positional embeddings are" if size else ""]
    if not two_towers:
        model = nn.ModuleDict({"visual": model.visual})
        left = [name for name in weights if not name.startswith("visual.")]
        notes += [f"without a text tower {', '.join(left)} has no use"] if left else []
        weights = {name: value for name, value in weights.items() if name.startswith("visual.")}
    fill(
        model,
        weights,
        spec=spec,
        instead=instead_for(
            weights,
            "Name the architecture that the file was saved from; a file in OpenAI's layout goes by `openai:FILE`.",
        ),
    )
    mean, std = _normalization(architecture)
    return clip_backbone(
        model,
        spec=spec,
        mean=mean,
        std=std,
        make_tokenizer=(lambda: open_clip.get_tokenizer(architecture)) if two_towers else None,
        note=joined_notes(*notes),
    )


def check_config(config: Mapping[str, Any], spec: str) -> None:
    """Refuses by name a model whose image tower our blocks cannot run, before its weights are fetched or read."""
    with torch.device("meta"):
        check_tower(_build(config, spec).visual, spec)


def _build(config: Mapping[str, Any], spec: str) -> Any:
    """The stock model without weights, of the class that open_clip itself would choose."""
    import open_clip
    from open_clip.model import CustomTextCLIP

    settings = deepcopy(dict(config))
    custom = settings.pop("custom_text", False)
    if "hf_model_name" in settings["text_cfg"]:
        custom = True
        settings["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.CoCa if custom and "multimodal_cfg" in settings else CustomTextCLIP if custom else open_clip.CLIP
    try:
        return kind(**settings)
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"`{spec}` could not be built: {first_line(error)}. Text towers from Hugging Face need `pip install "
            "transformers` and the network once; others do not."
        ) from error


def _image_size(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The square size that a file's position table was made for, where it is not the architecture's own.

    Stretching the table here as well as for each image would interpolate twice.
    """
    table, patches = weights.get("visual.positional_embedding"), weights.get("visual.conv1.weight")
    prefixes: tuple[int, ...] = (1,)
    if table is None:
        table, patches = weights.get("visual.trunk.pos_embed"), weights.get("visual.trunk.patch_embed.proj.weight")
        prefixes = (0, 1)  # a tower of timm, with or without a row for the class token
    if table is None or patches is None:
        return {}
    rows = table.shape[-2]
    side = next(
        (round((rows - count) ** 0.5) for count in prefixes if round((rows - count) ** 0.5) ** 2 + count == rows), 0
    )
    stated = int(config["vision_cfg"].get("image_size") or 0)
    # What is left of an image beyond whole patches has no positions: 384 pixels of patches of 14 are a grid of 27.
    return {"image_size": side * patches.shape[-1]} if side and side != stated // patches.shape[-1] else {}


def _in_layout_of(model: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Older layouts of the same weights brought into the one that `model` has, as open_clip's loader does."""
    from open_clip.model import convert_to_custom_text_state_dict

    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    slots = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in slots and name in weights and weights[name].numel() == slots[name].numel():
            weights[name] = weights[name].reshape(slots[name].shape)
    return {name: value for name, value in weights.items() if not name.endswith("embeddings.position_ids")}


def _normalization(architecture: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of all published weights of an architecture where they agree, OpenAI's otherwise."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    published = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    choices = {(tuple(config["mean"]), tuple(config["std"])) for config in published}
    if len(choices) == 1:
        return choices.pop()
    return open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line of at most 300 characters."""
    line = str(error).strip().partition("\n")[0]
    return shorten(line, 300, placeholder=" …").rstrip(".") or type(error).__name__
