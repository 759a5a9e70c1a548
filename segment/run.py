"""Label maps of a folder of images on disk: one image after another, and on again where a run was stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.below import below
from diagnostics.images import ImageError, find_images, read_size
from diagnostics.images.content import file_content, joined
from diagnostics.images.feed import named, progress_bar
from diagnostics.json_object import json_object
from diagnostics.local_path import local_path
from diagnostics.studies.store import OtherRun
from segment.decoding.label_files import write_json, write_label_map
from segment.segmenter import Segmentation, Segmenter, check_specs

# Characters of a method's folder; file systems take 255. Our choice: room for what is put behind.
LONGEST = 120
# Bytes of an image's name in those of its files: room for `.overlay.png`, and for a dot, a number and `.part` of files
# that are being written. Our choice.
LONGEST_STEM = 200


class SegmentRun:
    """A run of a segmenter over files, into a folder.

    OUT/METHOD/NAME.labels.png and .json for each image and method; NAME is the part of the path below the folder that
    all images share. OUT/settings.json says what made them: a folder of other settings is refused. Iterating does
    the work and yields, for each image not yet done, its segmentations; an image counts as done once its last JSON
    is there, so the caller writes its own files (an overlay) before asking for the next one. A label map or JSON
    that is lost, damaged or of another shape is made again. Images that lie below OUT are left out: they may be label
    maps.

    Images whose windows have one shape come together, so that batches are full where the shapes differ. Detectors
    that learn are fitted on the first images of all, done or not: a resumed run ends as an uninterrupted one. `about`
    holds what else shaped the words, to be kept among the settings. ValueError where no image can be read, unless
    others are done.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        images: Any,
        out: str | Path,
        *,
        about: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> None:
        check_specs(segmenter.methods)
        self.segmenter, self.out, self.progress = segmenter, local_path(out), progress
        self.left_out: dict[str, str] = {}
        self.paths = self._outside(images)
        self.stems = _stems(self.paths)
        segmenter.refine.check(list(self.paths.values()))
        self.settings = run_settings(segmenter) | dict(json.loads(json.dumps(about or {})))
        self._claim()
        self._check_done()

    def _outside(self, images: Any) -> dict[str, Path]:
        """The images by name, without what lies below the folder of the run: its label maps are none of them."""
        paths = find_images(images)
        out = Path(os.path.realpath(self.out))
        kept = [path for path in paths if out not in Path(os.path.realpath(path)).parents]
        if not kept:
            raise ValueError(
                f"all {len(paths)} images lie in `{self.out}`, where the label maps are to go; give --out the name "
                "of a folder of its own, such as one inside."
            )
        return named(kept)

    @property
    def waiting(self) -> list[str]:
        """Names of the images that are not done."""
        return [name for name in self.paths if not all(self._is_done(name, method) for method in self.methods)]

    @property
    def methods(self) -> list[str]:
        """The specs of the methods."""
        return [method.spec for method in self.segmenter.methods]

    def file(self, method: str, ending: str) -> Path:
        """Where a method's file goes, by its ending behind the method's folder: `NAME.overlay.png`.

        Raises LeadsOut where that is no place below the folder of the run.
        """
        return below(self.out, f"{file_name(method)}/{ending}")

    def __iter__(self) -> Iterator[tuple[Segmentation, ...]]:
        waiting = self.waiting
        done = len(self.paths) - len(waiting)
        bar = progress_bar("segment", len(self.paths), done=done, shown=self.progress)
        with bar:
            if not waiting:
                return
            segmenter = self.segmenter.fitted([(name, path) for name, path in self.paths.items()])
            run = segmenter.many([(name, self.paths[name]) for name in self._by_shape(waiting)])
            try:
                for segmentations in run:
                    for segmentation in segmentations:
                        self._write(segmentation)
                    yield segmentations
                    self._finish(segmentations)
                    bar.update(1)
            except ValueError:
                # Where only images are left that can't be read, all that can be done is done.
                if not done or len(run.left_out) < len(waiting):
                    raise
            finally:
                self.left_out = dict(run.left_out)

    def _by_shape(self, names: list[str]) -> list[str]:
        """Names with those together whose windows have one shape, in the order in which the shapes first come."""
        groups: dict[tuple[int, int] | None, list[str]] = {}
        for name in names:
            groups.setdefault(self._shape(self.paths[name]), []).append(name)
        return [name for group in groups.values() for name in group]

    def _shape(self, path: Path) -> tuple[int, int] | None:
        try:
            window = self.segmenter.window_of(*read_size(path))
        except ImageError:
            return None  # reported when its turn comes
        self.segmenter.check_memory(path.name, window)
        return window

    def _write(self, segmentation: Segmentation) -> None:
        path = self._labels(segmentation.name, segmentation.method)
        write_label_map(
            path,
            segmentation.labels,
            segmentation.names,
            background=segmentation.background,
            about=f"{segmentation.method}; {segmentation.name}",
        )

    def _finish(self, segmentations: tuple[Segmentation, ...]) -> None:
        for segmentation in segmentations:
            write_json(
                self._note(segmentation.name, segmentation.method),
                described(segmentation, self.settings, file=self._file(segmentation.name)),
            )

    def _file(self, name: str) -> str:
        """Tells an image's file from another one of the same name."""
        beside = self.segmenter.refine.content(self.paths[name])
        return joined([file_content(self.paths[name]), *([beside] if beside else [])])

    def _is_done(self, name: str, method: str) -> bool:
        """Whether a label map and its description are there and whole."""
        labels, note = self._labels(name, method), self._note(name, method)
        try:
            described = json_object(note.read_bytes(), note, "")
            with Image.open(labels, formats=["PNG"]) as image:
                image.verify()  # holds the content against its checksums
                return image.size == (described["width"], described["height"])
        except Exception:  # lost, cut short, of another form: all in many ways
            return False

    def _described(self, name: str, method: str) -> dict[str, Any]:
        note = self._note(name, method)
        return json_object(note.read_bytes(), note, "Delete it and run again.")

    def _check_done(self) -> None:
        """Refuses a folder with the label map of another image of the same name."""
        waiting = set(self.waiting)
        for name in self.paths:
            if name in waiting:
                continue
            if self._described(name, self.methods[-1]).get("file") != self._file(name):
                raise OtherRun(
                    f"`{self._note(name, self.methods[-1])}` describes another image, or an older one, than "
                    f"`{self.paths[name]}`. Choose another --out, or delete it."
                )

    def _note(self, name: str, method: str) -> Path:
        return self.file(method, f"{self.stems[name]}.json")

    def _labels(self, name: str, method: str) -> Path:
        return self.file(method, f"{self.stems[name]}.labels.png")

    def _claim(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"`{self.out}` is a file; give --out the name of a folder, which may be new.")
        note = self.out / "settings.json"
        if note.exists():
            known = json_object(note.read_bytes(), note, "Choose another --out, or delete the folder.")
            other = [key for key in self.settings if known.get(key) != self.settings[key]]
            if other:
                raise OtherRun(
                    f"`{self.out}` holds label maps of a run with other settings ({', '.join(other)}). Choose another "
                    "--out, or delete it."
                )
            return
        write_json(note, self.settings)


def described(segmentation: Segmentation, settings: dict[str, Any], *, file: str = "") -> dict[str, Any]:
    """What a label map's JSON says: the classes that occur with area and mean confidence, and what made it.

    `file` is a fingerprint of the image's file.
    """
    areas, scores = segmentation.areas, segmentation.scores
    present = sorted(
        (number for number in range(len(segmentation.names)) if areas[number] > 0), key=lambda n: -areas[n]
    )
    return {
        "image": segmentation.name,
        "file": file,
        "height": int(segmentation.labels.shape[0]),
        "width": int(segmentation.labels.shape[1]),
        "method": segmentation.method,
        "classes": [
            {
                "number": number,
                "name": segmentation.names[number],
                "area": round(float(areas[number]), 6),
                "confidence": None if math.isnan(scores[number]) else round(float(scores[number]), 6),
            }
            for number in present
        ],
        "names": list(segmentation.names),
        "unscored": round(float((segmentation.labels < 0).mean()), 6),
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
    """A spec as the name of a folder: what some file systems refuse becomes `-`, and a long end its fingerprint."""
    name = "".join(sign if sign.isalnum() or sign in "-_=.,+" else "-" for sign in spec)
    if len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{hashlib.sha256(spec.encode()).hexdigest()[:8]}"


def short_stem(name: str) -> str:
    """A name below a folder whose last part leaves room for the endings that files get: cut, with its fingerprint."""
    folder, slash, last = name.rpartition("/")
    if len(os.fsencode(last)) <= LONGEST_STEM:
        return name
    kept = os.fsencode(last)[: LONGEST_STEM - 9].decode("utf-8", errors="ignore")
    return f"{folder}{slash}{kept}-{hashlib.sha256(os.fsencode(last)).hexdigest()[:8]}"


def _stems(paths: dict[str, Path]) -> dict[str, str]:
    """Name -> the same without its suffix, where that is unique, and no other image's name; long ones are cut."""
    stems: dict[str, list[str]] = {}
    for name in paths:
        stems.setdefault(Path(name).with_suffix("").as_posix(), []).append(name)
    return {
        name: short_stem(stem if len(names) == 1 and stem not in paths else name)
        for stem, names in stems.items()
        for name in names
    }
