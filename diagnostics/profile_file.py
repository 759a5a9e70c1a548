"""The profile of a backbone as a file: JSON that says what it is, for which weights, and what was found."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diagnostics.backbones.base import Backbone
from diagnostics.json_object import DamagedFile, json_object
from diagnostics.local_path import local_path

FORMAT, VERSION = "attention-outliers profile", 1
LARGEST = 64 * 2**20  # bytes; our choice: a profile has a few thousand
ADVICE = "Make it again: outliers profile IMAGES --backbone SPEC --out DIR."
# What every profile has, and the types that it may have there.
FIELDS: dict[str, tuple[type, ...]] = {
    "verdict": (str,),
    "first_layer": (int, type(None)),
    "outliers_per_image": (int, float),
    "threshold": (dict,),
    "backbone": (str,),
    "weights": (str,),
    "detector": (str,),
    "settings": (dict,),
}


class OtherModel(ValueError):
    """A profile of other weights, or of other normalization, than the backbone's."""


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 over settings as JSON; the first 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def write_profile(facts: Mapping[str, Any], path: str | Path) -> Path:
    """Writes a profile as JSON; the file appears only when it is whole. Returns its path."""
    path = local_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        text = json.dumps({"format": FORMAT, "version": VERSION, **facts}, indent=1, ensure_ascii=False)
        part.write_text(f"{text}\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_profile(path: str | Path) -> dict[str, Any]:
    """The facts of a profile; a DamagedFile, a ValueError, where the file holds something else."""
    path = local_path(path)
    if not path.is_file():
        raise ValueError(f"`{path}` should be the profile of a backbone; it is not a file. {ADVICE}")
    if path.stat().st_size > LARGEST:
        raise DamagedFile(f"`{path}` is too large for a profile: {path.stat().st_size} bytes. {ADVICE}")
    facts = json_object(path.read_bytes(), path, ADVICE)
    if facts.get("format") != FORMAT:
        raise DamagedFile(f"`{path}` is no profile of a backbone: its `format` is not `{FORMAT}`. {ADVICE}")
    if facts.get("version") != VERSION:
        raise DamagedFile(f"`{path}` has version {facts.get('version')!r}; this program reads {VERSION}. {ADVICE}")
    for name, kinds in FIELDS.items():
        if name not in facts or not isinstance(facts[name], kinds) or isinstance(facts[name], bool):
            raise DamagedFile(f"`{path}` is damaged: `{name}` is missing or is no {kinds[0].__name__}. {ADVICE}")
    for layer, threshold in facts["threshold"].items():
        number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool) and math.isfinite(threshold)
        if not layer.isdigit() or not (threshold is None or number):
            raise DamagedFile(f"`{path}` is damaged: the threshold of layer `{layer}` is {threshold!r}. {ADVICE}")
    return facts


def check_model(facts: Mapping[str, Any], backbone: Backbone, weights: str, where: str) -> None:
    """OtherModel where a profile is not of this backbone: `weights` is its fingerprint; `where` names the profile."""
    if facts["weights"] != weights:
        raise OtherModel(
            f"`{where}` is the profile of `{facts['backbone']}` with the weights {facts['weights']} in "
            f"{facts['settings'].get('precision')}; `{backbone.spec}` has {weights}. Profile this backbone, in the "
            "precision in which it runs: outliers profile IMAGES --backbone SPEC --out DIR."
        )
    for name, values in (("mean", backbone.mean), ("std", backbone.std)):
        known = facts["settings"].get(name)
        if known is None or not _same(known, values):
            raise OtherModel(
                f"`{where}` was measured on images normalized with {name} {known}; `{backbone.spec}` has "
                f"{list(values)}. Other pixels have other norms: profile it again, or load it with the same."
            )


def _same(known: Any, values: tuple[float, ...]) -> bool:
    numbers = isinstance(known, list) and all(isinstance(value, (int, float)) for value in known)
    return (
        numbers
        and len(known) == len(values)
        and all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(known, values, strict=True))
    )
