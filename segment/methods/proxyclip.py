"""ProxyCLIP: a second backbone says which patches belong together, and CLIP's values follow it."""

from __future__ import annotations

from segment.encoders.proxy import Proxy
from segment.method import Method, Paper

METHOD = Method(
    encoder=Proxy(),
    paper=Paper(title="ProxyCLIP", venue="ECCV 2024", arxiv="2408.04883", code="mc-lan/ProxyCLIP e7b767f"),
    summary="values mixed by the similarity of a second backbone's patches, on its grid; DINO ViT-B/8 by default",
    page="proxyclip",
    departures=(
        "Not compared with outputs of the release: none were at hand.",
        "Windows that are not square work; the release takes both sides of the grid from the height.",
        "Each backbone pads to its own patches; the release pads both to a multiple of 56 (no difference at 224, 336, "
        "448).",
        "The second backbone runs in the first one's precision; the release runs both in fp16.",
        "A patch is never left out of its own row; the release has NaN where a whole row is masked.",
        "No hooks: the release adds one for every window and removes none.",
    ),
)
