"""A page to look at: everything that images show inside a network, in one HTML file."""

from __future__ import annotations

from figures.view.page import LIMIT, PageImage, page_html

__all__ = ["LIMIT", "PageImage", "page_html"]
