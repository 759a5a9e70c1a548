"""Drawn scenes that kill who reads them, or can't be read; in a module of its own, so that other processes find it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from diagnostics.images import ImageError
from segment.datasets.base import Dataset, Sample
from segment.datasets.shapes import NAMES, Shapes


@dataclass(frozen=True, kw_only=True)
class FaultyShapes(Dataset):
    """Scenes of `shapes`. Reading scene `deadly` ends the process, as often as there are to be deaths.

    Deaths are counted by files in `folder`. `parent` is spared. Scenes in `broken` raise ImageError.
    """

    scenes: int = 12
    folder: str = ""
    deadly: int = -1
    deaths: int = 1
    parent: int = 0
    broken: tuple[int, ...] = ()
    names: tuple[str, ...] = NAMES
    ignore: int | None = None
    background: int | None = None

    def __len__(self) -> int:
        return self.scenes

    def sample_name(self, index: int) -> str:
        return f"scene-{index}"

    def content(self, index: int) -> bytes:
        return f"scene-{index}".encode()  # scenes are their numbers; reading one here could end the test itself

    def read(self, index: int) -> Sample:
        if index == self.deadly and os.getpid() != self.parent:
            for number in range(self.deaths):
                try:
                    Path(self.folder, f"death-{number}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        if index in self.broken:
            raise ImageError(f"scene-{index}.png", "is damaged", "Draw it again")
        return Shapes(scenes=self.scenes, height=48, width=64).read(index)._replace(name=f"scene-{index}")
