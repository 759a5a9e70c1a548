"""Edits in words, behind a backbone's spec: `timm:NAME@FILE + mute-channels:channels=41 + purify-at:…`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.lined import Profiled
from diagnostics.edits import EDITS
from diagnostics.edits.attention_mask import AttentionMask
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.edits.register import TestTimeRegister, register_token
from diagnostics.profile_file import check_model, read_profile
from diagnostics.registry import parse_spec, spec_name
from diagnostics.taps import resolve_layer

PURIFIER = "neighbor-mean"
# Least share of what hidden units write along the outliers for a unit to be moved into a register. Our choice.
LEAST_SHARE = 0.05


def edited(backbone: Backbone, specs: Sequence[str]) -> Backbone:
    """The backbone with these edits in every forward pass, and with their specs behind its own."""
    if not specs:
        return backbone
    edits = [edit for spec in specs for edit in edits_of(spec, backbone)]
    return backbone.with_edits(edits, " + ".join([backbone.spec, *specs]))


def edits_of(spec: str, backbone: Backbone) -> list[Any]:
    """What a spec stands for on this backbone.

    `purify-at` takes `detector`, `purifier` (neighbor-mean by default) and `layers`; with detector=profile(FILE) and no
    layers, the first layer with outliers, and nothing where there is none. `register` takes `neurons=8.417+8.3`, layer
    and hidden unit, or `profile=FILE`, whose units it moves. Other edits take their fields. ValueError for a detector
    that would have to learn from images: a profile holds what it needs.
    """
    name, fields = parse_spec(spec)
    if name == "register":
        return [_register(fields, backbone, spec)]
    if name == "purify-at":
        fields.setdefault("purifier", PURIFIER)
        if spec_name(fields.get("detector", "")) == "profile" and "layers" not in fields:
            first = read_profile(_file(fields["detector"]))["first_layer"]
            if first is None:
                return []
            fields["layers"] = str(first)
        if "detector" not in fields:
            raise ValueError(f"`{spec}` should say what it purifies: purify-at:detector=profile(FILE), or a detector.")
    edit = EDITS.build(f"{name}:{','.join(f'{key}={value}' for key, value in fields.items())}" if fields else name)
    if isinstance(edit, (PurifyAt, AttentionMask)) and edit.detector is not None and edit.detector.learns:
        return _with_lines(edit, backbone)
    return [edit]


def _with_lines(edit: PurifyAt | AttentionMask, backbone: Backbone) -> list[Any]:
    """The edit once for each of its layers, with the detector that is ready for it."""
    detector: Any = edit.detector
    if not isinstance(detector, Profiled):
        raise ValueError(
            f"the detector of `{type(edit).__name__}` learns from images, which a backbone does not have; make a "
            "profile of them, and name it: detector=profile(FILE)."
        )
    layers = range(1, backbone.depth + 1) if edit.layers is None else edit.layers
    places = [resolve_layer(layer, backbone.depth) for layer in layers]
    # A mask judges by what the block before let out.
    before = isinstance(edit, AttentionMask)
    judged = {place: place - 1 if before else place for place in places}
    ready: dict[int, Any] = detector.fitted_to(backbone, torch.empty(0), [at for at in judged.values() if at > 0])
    return [replace(edit, detector=ready[at], layers=(place,)) for place, at in judged.items() if at > 0]


def _register(fields: dict[str, str], backbone: Backbone, spec: str) -> TestTimeRegister:
    """A test-time register for neurons that are named, or for those of a profile."""
    file, text = fields.pop("profile", ""), fields.pop("neurons", "")
    if bool(file) == bool(text):
        raise ValueError(
            f"`{spec}` should name hidden units, register:neurons=8.417+8.3 (layer.unit), or a profile that found "
            "them, register:profile=FILE."
        )
    neurons = _units_of(file, backbone) if file else tuple(map(_neuron, text.split("+")))
    for layer, _ in neurons:
        resolve_layer(layer, backbone.depth)
    rest = ",".join(f"{key}={value}" for key, value in fields.items())
    register: TestTimeRegister = EDITS.build(
        f"register:{rest}" if rest else "register", neurons=neurons, token=register_token(backbone)
    )
    return register


def _units_of(file: str, backbone: Backbone) -> tuple[tuple[int, int], ...]:
    from diagnostics.backbones.fingerprint import fingerprint

    facts = read_profile(file)
    check_model(facts, backbone, fingerprint(backbone.model), file)
    units = facts.get("units") or []
    neurons = tuple((row["layer"], row["unit"]) for row in units if row["share"] >= LEAST_SHARE)
    if not neurons:
        raise ValueError(f"`{file}` names no hidden units that write outliers; profile with --examine above 0.")
    return neurons


def _neuron(text: str) -> tuple[int, int]:
    layer, dot, unit = text.strip().partition(".")
    if not dot or not layer.isdigit() or not unit.isdigit():
        raise ValueError(f"`neurons` should be layer.unit such as 8.417, several with +; got `{text}`.")
    return int(layer), int(unit)


def _file(detector: str) -> str:
    """The file in `profile(FILE)` or `profile(file=FILE)`."""
    from diagnostics.detectors import DETECTORS

    built: Any = DETECTORS.build(detector)
    return str(built.file)
