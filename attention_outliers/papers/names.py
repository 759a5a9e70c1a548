"""Methods and data sets as the papers print them."""

from __future__ import annotations

METHODS = {
    "clip": "CLIP",
    "maskclip": "MaskCLIP",
    "sclip": "SCLIP",
    "clearclip": "ClearCLIP",
    "naclip": "NACLIP",
    "clip-surgery": "CLIP Surgery",
    "gem": "GEM",
    "cliptrase": "CLIPtrase",
    "sc-clip": "SC-CLIP",
    "sfp": "SFP",
    "resclip": "ResCLIP",
    "itaclip": "ITACLIP",
    "dih-clip": "DIH-CLIP",
    "pearl": "PEARL",
    "registers": "Test-time registers",
    "purify-first": "Purify first",
    "proxyclip": "ProxyCLIP",
    "lavg": "LaVG",
}
DATA_SETS = {
    "voc20": "VOC20",
    "voc21": "VOC21",
    "context59": "Context59",
    "context60": "Context60",
    "context459": "Context459",
    "coco-object": "COCO-Object",
    "coco-stuff": "COCO-Stuff",
    "coco-stuff-10k": "COCO-Stuff 10k",
    "coco-stuff-27": "COCO-Stuff 27",
    "cityscapes": "Cityscapes",
    "cityscapes-27": "Cityscapes 27",
    "ade150": "ADE150",
    "ade847": "ADE847",
}
AS_PRINTED = "-paper"


def method_name(spec: str) -> str:
    """A method as papers name it: `sc-clip` -> SC-CLIP, `sfp-paper` -> SFP (as printed); settings stay behind it."""
    name, colon, settings = spec.partition(":")
    printed = METHODS.get(name.removesuffix(AS_PRINTED))
    if printed is None:
        return spec
    return printed + (" (as printed)" if name.endswith(AS_PRINTED) else "") + colon + settings


def data_set_name(name: str) -> str:
    """A data set as papers name it; its own name where they have none."""
    return DATA_SETS.get(name, name)
