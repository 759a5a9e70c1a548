"""The registry of protocols, by name; a new one is a file and a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diagnostics.registry import parse_spec, unknown_name
from segment.evaluation.protocols.base import Protocol, Protocols
from segment.evaluation.protocols.clearclip import PROTOCOLS_OF_CLEARCLIP
from segment.evaluation.protocols.cliptrase import PROTOCOLS_OF_CLIPTRASE, PROTOCOLS_OF_CLIPTRASE_224
from segment.evaluation.protocols.gem import PROTOCOLS_OF_GEM
from segment.evaluation.protocols.naclip import PROTOCOLS_OF_NACLIP
from segment.evaluation.protocols.ours import PROTOCOLS_OF_OURS
from segment.evaluation.protocols.proxyclip import PROTOCOLS_OF_PROXYCLIP
from segment.evaluation.protocols.sc_clip import PROTOCOLS_OF_SC_CLIP, PROTOCOLS_OF_SC_CLIP_L14
from segment.evaluation.protocols.sclip import PROTOCOLS_OF_SCLIP
from segment.evaluation.protocols.sfp import PROTOCOLS_OF_SFP
from segment.evaluation.protocols.words import vocabulary_for

__all__ = ["PROTOCOLS", "Protocol", "Protocols", "protocol_for", "vocabulary_for"]


class _ByName(dict[str, Protocols]):
    """Names to protocols, with an error that helps."""

    def __missing__(self, name: str) -> Protocols:
        raise unknown_name("protocol", name, self)

    def describe(self) -> dict[str, str]:
        """Each name with its line."""
        return {name: found.summary for name, found in self.items()}


PROTOCOLS = _ByName(
    {
        "ours": PROTOCOLS_OF_OURS,
        "sclip": PROTOCOLS_OF_SCLIP,
        "sc-clip": PROTOCOLS_OF_SC_CLIP,
        "sc-clip-l14": PROTOCOLS_OF_SC_CLIP_L14,
        "sfp": PROTOCOLS_OF_SFP,
        "clearclip": PROTOCOLS_OF_CLEARCLIP,
        "naclip": PROTOCOLS_OF_NACLIP,
        "proxyclip": PROTOCOLS_OF_PROXYCLIP,
        "cliptrase": PROTOCOLS_OF_CLIPTRASE,
        "cliptrase-224": PROTOCOLS_OF_CLIPTRASE_224,
        "gem": PROTOCOLS_OF_GEM,
    }
)

# Data sets whose classes are clusters: they are given to classes by the Hungarian method.
UNSUPERVISED = frozenset({"coco-stuff-27", "cityscapes-27"})
# Data sets without a place in any paper: a protocol's common setting is used, and the result says so.
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
        found = known.known[place]
    elif known.everywhere or place in OWN or place in UNSUPERVISED:
        found = replace(known.elsewhere, name=name, dataset=place, published=False)
        if not known.everywhere:
            said = f"`{name}` has no setting for `{place}`: what its others have in common, and the data set's names."
            found = replace(found, departures=(*found.departures, said))
    else:
        raise ValueError(
            f"protocol `{name}` has no setting for data set `{place}`; it has {', '.join(known.known)}. Take the "
            "protocol `ours`, which has one for every data set, or another paper's: "
            f"{', '.join(other for other in PROTOCOLS if place in PROTOCOLS[other].known) or 'none has it'}."
        )
    if place in UNSUPERVISED:
        found = replace(found, matching="hungarian")
    return found.changed(settings or {})


def settings_table() -> list[tuple[str, str, Protocol]]:
    """(protocol, data set, setting) of all released ones, for documents and tests."""
    return [(name, dataset, one) for name, found in PROTOCOLS.items() for dataset, one in found.known.items()]
