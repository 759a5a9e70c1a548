"""A page to look at: everything that pictures show inside a network, in one HTML file."""

from __future__ import annotations

from figures.view.page import LIMIT, Seen, page_html

__all__ = ["LIMIT", "Seen", "page_html"]
