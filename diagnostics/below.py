"""Names that come with data, as places below a folder and nowhere else."""

from __future__ import annotations

import os
import re
from pathlib import Path


class LeadsOut(ValueError):
    """A name that leads out of its folder."""


def leads_out(name: str) -> str:
    """Why a name can't be a place below a folder, such as "has `..` in it"; "" where it can."""
    if not name or "\0" in name:
        return "is no name of a file"
    if name.startswith(("/", "\\")) or (os.name == "nt" and re.match("[A-Za-z]:", name)):
        return "is an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "has `..` in it"
    return ""


def below(folder: str | Path, name: str) -> Path:
    """FOLDER/NAME, to be written. The folder may be a link, and so may the file itself, which is then replaced.

    Raises LeadsOut for a name with `..`, an absolute one, and one with a folder that is a link to a place outside.
    """
    folder = Path(folder)
    if reason := leads_out(name):
        raise LeadsOut(f"the name `{name}` {reason}, so it would lead out of `{folder}`; give it another name.")
    path = folder / name
    root, parent = os.path.realpath(folder), os.path.realpath(path.parent)
    if os.path.commonpath([root, parent]) != root:
        raise LeadsOut(
            f"`{path}` would be written to `{parent}`, out of `{folder}`: a folder on the way is a link. Take the link "
            "away, or choose another folder."
        )
    return path
