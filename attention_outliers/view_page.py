"""One page to look inside with: maps, attention, outliers and label maps of images, in one HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from diagnostics import Backbone
from diagnostics.options import RunOptions
from figures.text import without_folders

if TYPE_CHECKING:  # what only segmentation needs is not loaded for pages without label maps
    from diagnostics.studies.image_report import ImageReport
    from figures.view import PageImage
    from segment.method import TextFeatures

# Detectors of the page where none are asked for: those of SC-CLIP, SFP and CLIPtrase, and two simple ones. Those of
# them that can't run on the backbone, or on images of that size, are left out. Our choice.
DETECTORS = ("relative-norm", "lof", "som", "self-correlation", "received-attention")
METHODS = "clip,clearclip,sc-clip"


def view_page(
    model: Backbone,
    images: Any,
    out: Path,
    *,
    detectors: Sequence[str] | None = None,
    purifier: str = "neighbor-mean",
    purified_by: str | None = None,
    methods: Sequence[str] = (),
    text: TextFeatures | None = None,
    windows: str = "slide",
    heads: Literal["all", "mean"] = "all",
    options: RunOptions | None = None,
) -> Mapping[str, str]:
    """Writes the page of `outliers view`; returns the images left out, with reasons.

    Label maps are drawn where `text` is given. Of `options`, `layers`, `size` and `strict` count. The file appears when
    it is whole; an older one is replaced.
    """
    from diagnostics.studies.image_report import ImageReports
    from figures.view import page_html
    from figures.view.html_file import write_html

    options = options or RunOptions()
    specs = usable_detectors(model, images, options) if detectors is None else list(detectors)
    reports = ImageReports(
        model,
        images,
        specs,
        purifier=purifier,
        purified_by=purified_by,
        heads=heads,
        options=options,
    )
    pages = _page_images(model, reports, methods, text, windows)
    page = page_html(pages, title=f"Inside {without_folders(model.spec)}", note=model.note)
    write_html(out, page)
    return reports.left_out


def usable_detectors(model: Backbone, images: Any, options: RunOptions) -> list[str]:
    """Those of DETECTORS that can run on all these images."""
    from diagnostics.detectors import DETECTORS as KNOWN
    from diagnostics.images.feed import list_images
    from diagnostics.studies.scoring import layouts_of

    layouts = layouts_of(model, list_images(images, options.size_for(model.native_size), strict=False))
    parts = {spec: KNOWN.build(spec) for spec in DETECTORS}
    return [
        spec
        for spec, part in parts.items()
        if not model.lacking(part.needs) and not any(map(part.unsupported_reason, layouts))
    ]


def _page_images(
    model: Backbone, reports: Any, methods: Sequence[str], text: TextFeatures | None, windows: str
) -> Iterator[PageImage]:
    """Each image with its label maps, one at a time."""
    from figures.view import PageImage

    for report in reports:
        if text is None or not methods:
            yield PageImage(inside=report)
        else:
            labels = _labels(model, report, methods, text, windows)
            yield PageImage(inside=report, labels=labels, classes=text.names, background=text.background)


def _labels(
    model: Backbone, inside: ImageReport, methods: Sequence[str], text: TextFeatures, windows: str
) -> dict[str, np.ndarray]:
    import segment

    return segment.segment_one(model, inside.image, text, methods, windows=windows)


def page_name(images: list[str], backbone: str) -> str:
    """The name of a page that was not named: `photo-pocket.html`."""
    first = Path(images[0]).stem if not set(images[0]) & set("*?[") else "images"
    return re.sub(r"[^\w.-]+", "-", f"{first or 'images'}-{without_folders(backbone)}") + ".html"
