"""Numbers that papers and repositories print, each with its source; the numbers are data, in published.json."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from diagnostics.registry import parse_spec

# How specs of backbones write what papers call ViT-B/16.
ARCHITECTURE = re.compile(r"ViT[-_]([BL])[-_/](16|14|32)(?![-_]?\d)", re.IGNORECASE)


class Published(NamedTuple):
    """A printed mean IoU in percent, the key and the name of its source, what is to be known about it, and whether it
    was made under the protocol that was asked for.
    """

    miou: float
    key: str
    source: str
    note: str
    same_protocol: bool


def published(method: str, dataset: str, backbone: str, protocol: str = "") -> list[Published]:
    """Everything that was printed for a method on a data set with a backbone; of the same protocol first.

    `method`, `dataset`: names or specs; a spec with settings of its own has no published number, nor has a backbone
    with other weights than OpenAI's. `backbone`: a spec, or ViT-B/16.
    """
    name, settings = parse_spec(method)
    architecture = openai_architecture(backbone)
    place, fields = parse_spec(dataset)
    if settings or architecture is None:
        return []
    if fields and fields != {"convention": "cliptrase"}:
        return []
    numbers = [
        Published(
            source["rows"][name][place],
            key,
            source["paper"],
            source["note"],
            protocol in source["protocols"] and name in source["own"],
        )
        for key, source in _sources().items()
        if source["backbone"] == architecture and place in source["rows"].get(name, {})
    ]
    # A paper speaks best for its own method.
    return sorted(numbers, key=lambda number: (not number.same_protocol, not number.key.startswith(f"{name}/")))


def openai_architecture(backbone: str) -> str | None:
    """`open_clip:ViT-B-16/openai` -> `ViT-B/16`; None for other weights and unknown architectures."""
    if re.fullmatch(r"ViT-[BL]/\d\d", backbone):
        return backbone
    match = ARCHITECTURE.search(backbone)
    openai = backbone.startswith("openai:") or backbone.rstrip("/").endswith("openai")
    return f"ViT-{match[1].upper()}/{match[2]}" if match and openai else None


def same_weights(ours: str, theirs: str) -> bool:
    """Whether two specs of backbones name the same weights, as far as specs can: equal, or both OpenAI's of a size."""
    architecture = openai_architecture(ours)
    return ours == theirs or (architecture is not None and architecture == openai_architecture(theirs))


def row_of(source: str, name: str) -> dict[str, float]:
    """Data set -> mean IoU in percent, as the row `name` of one source has it: `sfp/table-1`, `clip`."""
    return dict(_sources()[source]["rows"][name])


@cache
def _sources() -> dict[str, Any]:
    return dict(json.loads(files("attention_outliers.papers").joinpath("published.json").read_text("utf-8"))["sources"])
