"""Which of a checkpoint's entries are the weights, and their names without what training has put before them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

# Where training scripts keep averaged weights (EMA): timm; DeiT; others; DINO, whose teacher is the student's average.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema", "teacher")
# Where they keep the weights that were trained: open_clip, timm, Lightning; DeiT, MAE; SlowFast; torch's tutorials;
# DeepSpeed; DINO.
RAW = ("state_dict", "model", "model_state", "model_state_dict", "module", "student")
# `FILE#WORD` for the two kinds; any other word is the name of an entry.
WORDS = {"ema": AVERAGED, "model": RAW}
# Before every name: DataParallel and DistributedDataParallel, Lightning and holders of a model.
PREFIXES = ("module.", "model.")
# Anywhere in a name: torch.compile, fully sharded training, recomputed activations.
WRAPPED = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# The network below the heads that self-supervised training throws away: DINO, iBOT, DINOv2.
BACKBONE = "backbone."
# Of adapters: peft's LoRA and its kin, which stand beside the weights that they change.
ADAPTERS = re.compile(r"(?:^|[._])(?:lora|lokr|loha|hada|ia3)_|\.base_layer\.|^base_model\.model\.")


class Checkpoint(NamedTuple):
    """Name -> tensor, and what a reader should know of how they were taken out of the file."""

    weights: dict[str, Tensor]
    note: str = ""


def taken_out(content: Mapping[Any, Any], entry: str | None, file: str) -> tuple[Mapping[Any, Any], str]:
    """The entry that holds the weights, unwrapped, and a note if there was a choice.

    `entry` is `ema`, `model`, the name of an entry, or None, which takes averaged weights where there are any, as
    timm's loader does. Raises ValueError with the file's entries where it is not there.
    """
    note = ""
    while True:
        inner = {str(key): value for key, value in content.items() if isinstance(value, Mapping) and _holds(value)}
        averaged = next((name for name in AVERAGED if name in inner), None)
        raw = next((name for name in RAW if name in inner), None)
        name = averaged or raw
        if entry is not None:
            named = next((name for name in WORDS.get(entry, (entry,)) if name in inner), None)
            # What was asked for may lie deeper.
            name, entry = (raw or averaged, entry) if named is None else (named, None)
        if name is None:
            break
        if averaged is not None:
            note = _choice(name, averaged, raw)
        content = inner[name]
    if entry is not None:
        raise ValueError(
            f"`{file}` has no entry for `#{entry}`; it holds {', '.join(map(str, list(content)[:6])) or 'nothing'}. "
            "`#ema` takes averaged weights, `#model` those that were trained, `#NAME` an entry of that name."
        )
    return content, note


def _choice(name: str, averaged: str, raw: str | None) -> str:
    kind = "averaged weights (EMA)" if name == averaged else "weights"
    other = {averaged: f"`{raw}` (#model)", raw: f"`{averaged}` (#ema)"}.get(name, f"`{averaged}` (#ema)")
    return f"{kind} taken from the entry `{name}`" + (f"; the file also has {other}" if raw or name != averaged else "")


def _holds(content: Mapping[Any, Any]) -> bool:
    """Whether there are tensors in it, or in an entry of it: optimizers and settings have none at their names."""
    return any(isinstance(value, Tensor) for value in content.values()) or any(
        isinstance(value, Mapping) and any(isinstance(number, Tensor) for number in value.values())
        for key, value in content.items()
        if key in (*AVERAGED, *RAW)
    )


def plain_names(weights: Mapping[str, Tensor], file: str) -> Checkpoint:
    """The weights under the model's own names, without what compiling, parallel training and other heads add to them.

    Raises ValueError for adapters that are not merged into the weights, and where two names become the same.
    """
    adapters = [name for name in weights if ADAPTERS.search(name)]
    if adapters:
        raise ValueError(
            f"weight file `{file}` holds {len(adapters)} weights of adapters (LoRA) that are not merged, such as "
            f"{adapters[0]}: the network that was trained is the sum. Merge them first, in peft: "
            "model.merge_and_unload(); then save its state dict."
        )
    names = {name: WRAPPED.sub("", name) for name in weights}
    note = ""
    while True:
        before = next((word for word in PREFIXES if all(name.startswith(word) for name in names.values())), None)
        if before is not None:
            names = {name: short.removeprefix(before) for name, short in names.items()}
        elif any(short.startswith(BACKBONE) for short in names.values()):
            inside = {name: short for name, short in names.items() if short.startswith(BACKBONE)}
            outside = [short for short in names.values() if not short.startswith(BACKBONE)]
            if outside:
                heads = ", ".join(sorted({short.partition(".")[0] for short in outside}))
                note = f"{len(outside)} weights beside the backbone are left out: {heads}"
            names = {name: short.removeprefix(BACKBONE) for name, short in inside.items()}
        else:
            break
    if len(set(names.values())) < len(names):
        raise ValueError(f"weight file `{file}` has two weights of one name, with and without a prefix of training.")
    return Checkpoint({short: weights[name] for name, short in names.items()}, note)


def joined_notes(*notes: str) -> str:
    """Notes one after another; empty ones leave no trace."""
    return "; ".join(note for note in notes if note)
