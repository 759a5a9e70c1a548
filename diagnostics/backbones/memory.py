"""A model in memory, of timm, open_clip or transformers, under our blocks: weights shared, the object unchanged."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.backbones.weights import first_names

FAMILY = "memory"
# What wraps a model without changing its forward, and the attribute that holds the model.
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
# Rows of CLIP's own list of words; the other tokenizers of text towers have lists of other lengths.
CLIP_WORDS = 49408
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
ACCEPTED = (
    "Accepted: a ViT of timm; a model of open_clip, or its image tower; a ViT, CLIP, SigLIP, DINO of transformers. "
    "Others by their weights: save the state dict and name the architecture, timm:NAME@FILE, "
    "open_clip:ARCHITECTURE@FILE or openai:FILE."
)
TOWERS = ("open_clip.transformer.VisionTransformer", "open_clip.timm_model.TimmModel")
CLIPS = ("open_clip.model.CLIP", "open_clip.model.CustomTextCLIP", "open_clip.coca_model.CoCa")


def load_memory(argument: str) -> Backbone:
    """A model that was in memory, which no name loads again: hand the object itself to load_backbone(module)

    Raises ValueError, always.
    """
    raise ValueError(
        f"`{FAMILY}:{argument}` was a model in the memory of another run: no name loads it. In Python hand over the "
        "object, ao.load_backbone(module); elsewhere save its state dict and name the file: timm:NAME@FILE, "
        "open_clip:ARCHITECTURE@FILE."
    )


def memory_backbone(
    module: nn.Module,
    *,
    name: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    tokenizer: Callable[..., Any] | None = None,
) -> Backbone:
    """The backbone over a model that somebody holds; weights are shared, the object is left as it was.

    Its spec is `memory:NAME@FINGERPRINT`, of the weights as they are now. Raises ValueError for a class that is not
    known, and for a model whose own forward is more than its modules say: adapters, offloading, quantized weights.
    """
    held = _unwrapped(module)
    kind = _kind(held)
    _check(held)
    name = name or _usual_name(held)
    if not re.fullmatch(r"[\w./+-]+", name):
        raise ValueError(f"`name` should be letters, digits and ./+-_, without spaces; got `{name}`.")
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in held.modules())
    note = f"{hooks} forward hooks of the model in memory are not run" if hooks else ""
    if kind == "transformers":
        return _transformers(held, name, mean=mean, std=std, tokenizer=tokenizer, note=note)
    view = frozen_view(held)
    if kind == "tower":
        view = nn.ModuleDict({"visual": view})
    spec = f"{FAMILY}:{name}@{fingerprint(view)}"
    if kind == "timm":
        from diagnostics.backbones.timm import timm_backbone

        return timm_backbone(view, spec, mean=mean, std=std, note=note)
    return _open_clip(view, spec, mean=mean, std=std, tokenizer=tokenizer, note=note)


def frozen_view(module: nn.Module) -> nn.Module:
    """A second tree of modules over the same tensors: in eval mode, without gradients and hooks.

    No weight is copied, and nothing of `module` changes: neither its mode nor which of its weights learn.
    """
    return _view(module, {})


def _view(module: nn.Module, known: dict[int, Any]) -> nn.Module:
    if id(module) in known:
        return known[id(module)]
    view = type(module).__new__(type(module))
    known[id(module)] = view
    state = dict(module.__dict__)
    state |= {key: OrderedDict() for key in state if key.endswith("_hooks") and isinstance(state[key], OrderedDict)}
    state["training"] = False
    state["_parameters"] = {key: _frozen(value, known) for key, value in module._parameters.items()}
    state["_buffers"] = dict(module._buffers)
    state["_modules"] = {key: None if value is None else _view(value, known) for key, value in module._modules.items()}
    view.__dict__.update(state)
    return view


def _frozen(weight: nn.Parameter | None, known: dict[int, Any]) -> nn.Parameter | None:
    """The same numbers in the same memory, as a weight that does not learn; tied weights stay tied."""
    if weight is not None and id(weight) not in known:
        known[id(weight)] = nn.Parameter(weight.detach(), requires_grad=False)
    return None if weight is None else known[id(weight)]


def _unwrapped(module: nn.Module) -> nn.Module:
    while type(module).__name__ in WRAPPERS:
        module = getattr(module, WRAPPERS[type(module).__name__])
    return module


def _kind(module: object) -> str:
    """`timm`, `clip`, `tower` or `transformers`; ValueError, which names what it was, for others."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"`spec` should be a spec, or a model in memory; got {type(module).__name__}. {ACCEPTED}")
    for kind in type(module).__mro__:
        place = f"{kind.__module__}.{kind.__qualname__}"
        if place in CLIPS or place in TOWERS:
            return "clip" if place in CLIPS else "tower"
        if kind.__module__.startswith("timm.models."):
            return "timm"
        if kind.__module__.startswith("transformers.models."):
            return "transformers"
    raise _unknown(module)


def _unknown(module: nn.Module) -> ValueError:
    kind = type(module)
    where = f"`{kind.__module__}.{kind.__qualname__}`"
    inner = [name for name, part in module.named_modules() if name and _is_known(part)]
    if kind.__module__.startswith("peft."):
        hint = "Merge its adapters and hand over the model itself: model.merge_and_unload()."
    elif inner:
        hint = f"It holds one that can be handed over: module.{inner[0]}."
    else:
        hint = ""
    return ValueError(f"a model in memory of class {where} is not known here. {hint + ' ' if hint else ''}{ACCEPTED}")


def _is_known(module: nn.Module) -> bool:
    """Whether this part of a model could be handed over itself: whole models only, no blocks or layers."""
    places = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__}
    library = type(module).__module__.partition(".")[0]
    whole = {"timm": "patch_embed", "transformers": "base_model_prefix"}.get(library)
    return bool(places & {*CLIPS, *TOWERS}) or (whole is not None and hasattr(module, whole))


def _check(module: nn.Module) -> None:
    """Refuses what would make our forward another than the object's own, by its reason."""
    for name, part in module.named_modules():
        if type(part).__module__.startswith("peft."):
            raise ValueError(
                f"`{name}` holds adapters (LoRA) that are not merged into the weights; hand over the merged model: "
                "model.merge_and_unload()."
            )
        if "forward" in vars(part) or hasattr(part, "_hf_hook"):
            raise ValueError(
                f"the forward of `{name or type(part).__name__}` was replaced on the object (accelerate, a patch), and "
                "ours would not follow it; hand over the plain model: accelerator.unwrap_model(model, "
                "keep_fp32_wrapper=False), or loaded without device_map."
            )
    tensors = dict(module.named_parameters())
    if not tensors:
        raise ValueError(f"a model in memory should have weights; `{type(module).__name__}` has none.")
    _check_one([str(weight.device) for weight in tensors.values()], "devices", "move it to one: model.to(device)")
    other = [name for name, weight in tensors.items() if weight.dtype not in PRECISIONS]
    if other:
        raise ValueError(
            f"weights in memory should be fp32, bf16 or fp16; {first_names(other)} are {tensors[other[0]].dtype}: "
            "quantized ones, or fp64. Load the model unquantized, or call model.float()."
        )
    _check_one([str(weight.dtype) for weight in tensors.values()], "precisions", "bring it to one: model.float()")
    if next(iter(tensors.values())).is_meta:
        raise ValueError("the weights of the model in memory are on the device `meta`, which holds none; load them.")


def _check_one(values: list[str], what: str, instead: str) -> None:
    kinds = sorted(set(values))
    if len(kinds) > 1:
        raise ValueError(f"the weights of the model in memory are of several {what}: {', '.join(kinds)}; {instead}.")


def _usual_name(module: nn.Module) -> str:
    """timm's name of the architecture where the object knows it; else the name of its class."""
    config = getattr(module, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(module).__name__)


def _open_clip(
    view: Any,
    spec: str,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    tokenizer: Callable[..., Any] | None,
    note: str,
) -> Backbone:
    import open_clip

    from diagnostics.backbones.openclip import check_tower, clip_backbone

    visual = view["visual"] if isinstance(view, nn.ModuleDict) else view.visual
    check_tower(visual, spec)  # a model that can't run is refused first
    config = open_clip.get_model_preprocess_cfg(visual) if _states_images(visual) else {}
    mean, std = mean or config.get("mean"), std or config.get("std")
    if mean is None or std is None:
        raise ValueError(
            f"`{spec}` does not say how its images are normalized (it was built from its class); give it: "
            "load_backbone(module, mean=…, std=…), for OpenAI's CLIP open_clip.OPENAI_DATASET_MEAN and _STD."
        )
    towers = not isinstance(view, nn.ModuleDict)
    make = (lambda: tokenizer or _clip_tokenizer(view)) if towers else None
    return clip_backbone(view, spec=spec, mean=mean, std=std, make_tokenizer=make, note=note)


def _transformers(
    held: Any,
    name: str,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    tokenizer: Callable[..., Any] | None,
    note: str,
) -> Backbone:
    """Over timm's module of the same architecture, whose weights are those of the object."""
    from diagnostics.backbones.transformers import state_backbone
    from diagnostics.backbones.transformers_text import Tokens

    config = held.config.to_dict()
    length = (config.get("text_config") or {}).get("max_position_embeddings", 0)

    def make() -> Any:
        if tokenizer is None:
            raise ValueError(
                "a model in memory has none: load_backbone(module, tokenizer=AutoTokenizer.from_pretrained(…))"
            )
        return Tokens(tokenizer, length) if hasattr(tokenizer, "pad") else tokenizer

    if mean is None or std is None:
        note = joined_notes(note, f"images are normalized as those of a {config['model_type']} mostly are: mean=, std=")
    spec = f"{FAMILY}:{name}"
    images = {"image_mean": mean, "image_std": std}
    state = {key: value.detach() for key, value in held.state_dict().items()}
    backbone = state_backbone(state, config, spec, images=images, make_tokenizer=make, shared=True, note=note)
    backbone.spec = f"{spec}@{fingerprint(backbone.model)}"
    return backbone


def _states_images(visual: Any) -> bool:
    """Whether the tower has any of the attributes by which open_clip keeps mean and std."""
    return any(getattr(visual, name, None) for name in ("preprocess_cfg", "image_mean", "image_std"))


def _clip_tokenizer(model: Any) -> Any:
    """CLIP's own tokenizer, if the text tower has its list of words; a model does not say which it was trained with."""
    import open_clip

    words = getattr(model, "vocab_size", None)
    if words != CLIP_WORDS:
        raise ValueError(
            f"a text tower of {words} words does not say which tokenizer it was trained with; give it: "
            "load_backbone(module, tokenizer=open_clip.get_tokenizer(ARCHITECTURE))"
        )
    return open_clip.SimpleTokenizer(context_length=model.context_length)
