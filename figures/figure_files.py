"""Figures as files that say what they show."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from diagnostics.below import below
from diagnostics.local_path import local_path
from diagnostics.studies.store import named_disk_errors
from figures.look import style

DPI = 200
SUFFIXES = (".png", ".pdf")


def write(figure: Figure, path: str | Path, *, metadata: Mapping[str, object] | None = None) -> list[Path]:
    """Writes the figure as PNG (200 dpi) and PDF, or as one of them where the path ends so; returns the paths written.

    `metadata`: what made the figure, such as its title and the spec of the backbone; all of it goes into the PNG's
    text chunks, and into the PDF as title and subject. The title is the figure's own where none is given. No date is
    written: the same figure gives the same bytes. Folders are made; a file appears only when it is whole.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What is written.
    path : path
        A file ending in .png or .pdf, or a name without suffix for both.
    metadata : dict or None
        Texts that are kept in the file, such as the backbone.

    Returns
    -------
    list of pathlib.Path
        The files written.

    Raises
    ------
    OSError
        If the file can not be written.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> import attention_outliers as ao
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in ao.write_figure(Figure(), f"{folder}/empty")]
    ['empty.png', 'empty.pdf']
    """
    path = local_path(path)
    known = path.suffix.lower() in SUFFIXES
    targets = [path] if known else [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    texts = {str(key): str(value) for key, value in (metadata or {}).items()}
    title = next((texts.pop(key) for key in list(texts) if key.lower() == "title"), figure.get_suptitle())
    for target in targets:
        if target.suffix.lower() == ".png":
            written: dict[str, str | None] = {"Title": title, **texts}
        else:
            # A PDF knows a fixed list of keys; a date is left out by None.
            subject = "; ".join(f"{key}: {value}" for key, value in texts.items())
            written = {"Title": title, "Subject": subject, "CreationDate": None}
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with style(), named_disk_errors(str(target)):
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(part, format=target.suffix.lower().lstrip("."), dpi=DPI, metadata=written)
                part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return targets


def write_figures(figures: Iterable[tuple[str, Figure]], folder: Path, *, source: str) -> int:
    """Writes each figure as PNG and PDF under its name; returns how many there were."""
    count = 0
    for name, figure in figures:
        # With the suffix: the name of a PNG image would pass for that of a finished file.
        for suffix in SUFFIXES:
            write(figure, below(local_path(folder), f"{name}{suffix}"), metadata={"Title": name, "Source": source})
        count += 1
    return count
