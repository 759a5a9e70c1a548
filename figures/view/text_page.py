"""A plain page of text, tables and images: one HTML file with everything in it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from figures.view.html_file import write_html

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 60rem; margin: 0 auto;
  padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
p { max-width: 46rem; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #e6e6e6; }
tbody th, thead th:first-child { text-align: left; font-weight: 600; }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with paragraphs, then tables, then images (PNG) with what they show."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[pd.DataFrame] = ()
    images: Sequence[tuple[Path, str]] = ()
    digits: int = 3


def write_page(path: Path, title: str, intro: Sequence[str], sections: Sequence[Section]) -> None:
    """Writes the page; it appears only when it is whole, and needs no other file."""
    body = [f"<h1>{html.escape(title)}</h1>", *_paragraphs(intro)]
    for section in sections:
        body += [f"<h2>{html.escape(section.title)}</h2>", *_paragraphs(section.text)]
        body += [f'<div class="table">{_table(table, section.digits)}</div>' for table in section.tables]
        body += [_image(*image) for image in section.images]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )
    write_html(path, page)


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return [f"<p>{html.escape(text)}</p>" for text in texts]


def _table(table: pd.DataFrame, digits: int) -> str:
    named = table.rename_axis(index=None).astype(object)
    # `na_rep` passes by None and missing whole numbers.
    named = named.where(named.notna(), "–")
    return named.to_html(float_format=lambda value: f"{value:.{digits}f}", border=0)


def _image(path: Path, shows: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(shows, quote=True)}">'
