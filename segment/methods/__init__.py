"""The registry of methods, by name; a new one is a file and a line."""

from __future__ import annotations

from segment.method import Methods
from segment.methods import clearclip, clip, maskclip, naclip, sclip

__all__ = ["METHODS"]

METHODS = Methods(
    {
        "clip": clip.METHOD,
        "maskclip": maskclip.METHOD,
        "sclip": sclip.METHOD,
        "clearclip": clearclip.METHOD,
        "naclip": naclip.METHOD,
    }
)
