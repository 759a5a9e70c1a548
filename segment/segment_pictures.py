"""Label maps of a folder of pictures on disk: one picture after another, and on again where a run was stopped."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diagnostics.feed import picture_paths, progress_bar
from diagnostics.fingerprint import fingerprint
from diagnostics.store import OtherRun
from segment.label_files import write_json, write_label_map
from segment.segmenter import Segmentation, Segmenter


class SegmentRun:
    """A run of a segmenter over files, into a folder.

    OUT/METHOD/NAME.labels.png and .json for each picture and method; NAME is the part of the path below the folder that
    all pictures share. OUT/settings.json says what made them: a folder of other settings is refused. Iterating does
    the work and yields, for each picture not yet done, its segmentations; a picture counts as done once its last JSON
    is there, so whoever iterates writes its own files (an overlay) before asking for the next picture, by `finish`.
    """

    def __init__(self, segmenter: Segmenter, pictures: Any, out: str | Path, *, progress: bool = False) -> None:
        self.segmenter, self.out, self.progress = segmenter, Path(out), progress
        self.left_out: dict[str, str] = {}
        self.paths = picture_paths(pictures)
        self.stems = _stems(self.paths)
        self.settings = run_settings(segmenter)
        self._claim()

    @property
    def waiting(self) -> list[str]:
        """Names of the pictures that are not done."""
        return [name for name in self.paths if not all(self._note(name, method).exists() for method in self.methods)]

    @property
    def methods(self) -> list[str]:
        """The specs of the methods."""
        return [method.spec for method in self.segmenter.methods]

    def folder(self, method: str) -> Path:
        """Where a method's files go."""
        return self.out / file_name(method)

    def __iter__(self) -> Iterator[tuple[Segmentation, ...]]:
        waiting = self.waiting
        done = len(self.paths) - len(waiting)
        bar = progress_bar("segment", len(self.paths), done=done, shown=self.progress)
        with bar:
            if not waiting:
                return
            run = self.segmenter.many([(name, self.paths[name]) for name in waiting])
            for found in run:
                for one in found:
                    self._write(one)
                yield found
                self._finish(found)
                bar.update(1)
            self.left_out = dict(run.left_out)

    def _write(self, one: Segmentation) -> None:
        path = self.folder(one.method) / f"{self.stems[one.name]}.labels.png"
        write_label_map(path, one.labels, one.names, background=one.background, about=f"{one.method}; {one.name}")

    def _finish(self, found: tuple[Segmentation, ...]) -> None:
        for one in found:
            write_json(self._note(one.name, one.method), described(one, self.settings))

    def _note(self, name: str, method: str) -> Path:
        return self.folder(method) / f"{self.stems[name]}.json"

    def _claim(self) -> None:
        note = self.out / "settings.json"
        if note.exists():
            known = json.loads(note.read_text(encoding="utf-8"))
            other = [key for key in self.settings if known.get(key) != self.settings[key]]
            if other:
                raise OtherRun(
                    f"`{self.out}` holds label maps of a run with other settings ({', '.join(other)}). Choose another "
                    "--out, or delete it."
                )
            return
        write_json(note, self.settings)


def described(one: Segmentation, settings: dict[str, Any]) -> dict[str, Any]:
    """What a label map's JSON says: the classes that occur with area and mean confidence, and what made it."""
    areas, scores = one.areas, one.scores
    present = sorted((number for number in range(len(one.names)) if areas[number] > 0), key=lambda n: -areas[n])
    return {
        "picture": one.name,
        "height": int(one.labels.shape[0]),
        "width": int(one.labels.shape[1]),
        "method": one.method,
        "classes": [
            {
                "number": number,
                "name": one.names[number],
                "area": round(float(areas[number]), 6),
                "confidence": None if math.isnan(scores[number]) else round(float(scores[number]), 6),
            }
            for number in present
        ],
        "names": list(one.names),
        "unscored": round(float((one.labels < 0).mean()), 6),
        "settings": settings,
    }


def run_settings(segmenter: Segmenter) -> dict[str, Any]:
    """All that shapes the labels, as JSON has it; weights and words by their fingerprints."""
    text = segmenter.text
    words = hashlib.sha256(text.features.float().cpu().numpy().tobytes() + repr(text.owners.tolist()).encode())
    settings = segmenter.settings() | {
        "weights": fingerprint(segmenter.backbone.model),
        "classes": list(text.names),
        "background": text.background,
        "words": words.hexdigest()[:16],
    }
    return dict(json.loads(json.dumps(settings)))


def file_name(spec: str) -> str:
    """A spec as the name of a folder: what some file systems refuse becomes `-`."""
    return "".join(sign if sign.isalnum() or sign in "-_=.,+" else "-" for sign in spec)


def _stems(paths: dict[str, Path]) -> dict[str, str]:
    """Name -> the same without its suffix, where that is unique."""
    stems: dict[str, list[str]] = {}
    for name in paths:
        stems.setdefault(str(Path(name).with_suffix("")), []).append(name)
    return {name: stem if len(names) == 1 else name for stem, names in stems.items() for name in names}
