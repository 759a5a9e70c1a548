"""The registry of protocols, by name; a new one is a file and a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry, parse_spec
from segment.datasets import DATASETS

if TYPE_CHECKING:
    from segment.evaluation.protocols.base import Protocol, Protocols
    from segment.evaluation.protocols.words import vocabulary_for

__all__ = ["PROTOCOLS", "Protocol", "Protocols", "protocol_for", "vocabulary_for"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "segment.evaluation.protocols.base": ("Protocol", "Protocols"),
        "segment.evaluation.protocols.words": ("vocabulary_for",),
    },
)

PROTOCOLS: Registry[Protocols] = Registry(
    "protocol",
    {
        "ours": "segment.evaluation.protocols.ours:PROTOCOLS_OF_OURS",
        "sclip": "segment.evaluation.protocols.sclip:PROTOCOLS_OF_SCLIP",
        "sc-clip": "segment.evaluation.protocols.sc_clip:PROTOCOLS_OF_SC_CLIP",
        "sc-clip-l14": "segment.evaluation.protocols.sc_clip:PROTOCOLS_OF_SC_CLIP_L14",
        "sfp": "segment.evaluation.protocols.sfp:PROTOCOLS_OF_SFP",
        "clearclip": "segment.evaluation.protocols.clearclip:PROTOCOLS_OF_CLEARCLIP",
        "naclip": "segment.evaluation.protocols.naclip:PROTOCOLS_OF_NACLIP",
        "resclip": "segment.evaluation.protocols.resclip:PROTOCOLS_OF_RESCLIP",
        "itaclip": "segment.evaluation.protocols.itaclip:PROTOCOLS_OF_ITACLIP",
        "dih-clip": "segment.evaluation.protocols.dih_clip:PROTOCOLS_OF_DIH_CLIP",
        "pearl": "segment.evaluation.protocols.pearl:PROTOCOLS_OF_PEARL",
        "pearl-paper": "segment.evaluation.protocols.pearl:PROTOCOLS_OF_PEARL_PAPER",
        "lavg": "segment.evaluation.protocols.lavg:PROTOCOLS_OF_LAVG",
        "proxyclip": "segment.evaluation.protocols.proxyclip:PROTOCOLS_OF_PROXYCLIP",
        "cliptrase": "segment.evaluation.protocols.cliptrase:PROTOCOLS_OF_CLIPTRASE",
        "cliptrase-224": "segment.evaluation.protocols.cliptrase:PROTOCOLS_OF_CLIPTRASE_224",
        "gem": "segment.evaluation.protocols.gem:PROTOCOLS_OF_GEM",
    },
    group="protocols",
)

# Data sets whose classes are clusters: they are given to classes by the Hungarian method.
UNSUPERVISED = frozenset({"coco-stuff-27", "cityscapes-27"})
# Our data sets without a place in any paper: a protocol's common setting is used, and the result says so. Those of
# other packages, or registered at run time, are such as well.
OWN = frozenset({"folder", "shapes", "shapes-objects", "camvid"})


def protocol_for(name: str, dataset: str, settings: Mapping[str, str] | None = None) -> Protocol:
    """The protocol `name` on the data set that the spec `dataset` names, with some `settings` changed.

    On data sets of the user's own (`folder`, drawn scenes) and on those of the unsupervised setting, it is what the
    paper's settings have in common, with the data set's own names as words; `departures` say so. ValueError for a
    published data set that the paper has no setting for: it names those that there are.
    """
    known = PROTOCOLS[name]
    place, _ = parse_spec(dataset)
    if place in known.known:
        protocol = known.known[place]
    elif known.everywhere or place in OWN or place in UNSUPERVISED or _of_others(place):
        protocol = replace(known.elsewhere, name=name, dataset=place, published=False)
        if not known.everywhere:
            departure = (
                f"`{name}` has no setting for `{place}`: what its others have in common, and the data set's names."
            )
            protocol = replace(protocol, departures=(*protocol.departures, departure))
    else:
        raise ValueError(
            f"protocol `{name}` has no setting for data set `{place}`; it has {', '.join(known.known)}. Take the "
            "protocol `ours`, which has one for every data set, or another paper's: "
            f"{', '.join(other for other in PROTOCOLS if place in PROTOCOLS[other].known) or 'none has it'}."
        )
    if place in UNSUPERVISED:
        protocol = replace(protocol, matching="hungarian")
    return protocol.changed(settings or {})


def _of_others(dataset: str) -> bool:
    """Whether another package brings this data set, or somebody registered it at run time."""
    return dataset in DATASETS and dataset not in DATASETS.listed


def settings_table() -> list[tuple[str, str, Protocol]]:
    """(protocol, data set, setting) of all released ones, for documents and tests."""
    return [
        (name, dataset, protocol) for name, family in PROTOCOLS.items() for dataset, protocol in family.known.items()
    ]
