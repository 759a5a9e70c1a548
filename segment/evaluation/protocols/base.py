"""What a protocol is: all that stands between a method and its number besides the method, as one value with a hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from diagnostics.backbones.positions import POSITIONS
from diagnostics.images import OPENCV, RESAMPLING, as_size
from diagnostics.registry import convert, unknown_name
from segment.decoding.refine import Refiner
from segment.decoding.refine.base import NoRefiner
from segment.decoding.windows import Slide, Windows
from segment.evaluation.metrics import CONVENTIONS
from segment.evaluation.metrics.summary import Convention
from segment.text.templates import load_templates
from segment.text.vocabulary import Vocabulary

Scored = Literal["original", "crop"]
Matching = Literal["none", "hungarian"]
Empty = Literal["scored", "skipped"]

# How `departures` begin that were asked for.
CHANGED = "set: "
# Changes when the same fields would lead to other numbers.
FORMAT = 1
# Fields that a text can't set: specs of methods and data sets do so themselves.
FIXED = ("method_fields", "dataset_fields")
# Fields that say where a protocol comes from; they shape nothing.
ABOUT = ("name", "dataset", "source", "departures", "published")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One paper's setting on one data set.

    `size`: what images are brought to, as `outliers segment --size` reads it, or None for the windows' own choice;
    `resampling` by which filter. `windows` say what the network sees. `templates` and `words` (a list of
    segment.datasets.words by name, `names` for the data set's own, or a class-name file) are the text side. `scale`,
    `threshold`, `smallest_area`: as in segment.method.Decode. `refine`: after the scores are made. `scored`: at the
    image's `original` size, or on the middle square (`crop`) of the image brought to its short side `size`, which
    is then all that the network sees. `metric`: see segment.evaluation.metrics.summarize. `matching`: `hungarian` for
    the unsupervised setting. `empty`: whether images count that show nothing but background, or no scored pixel at
    all. `positions`: one interpolation of the position table for all methods, or None for each method's own.
    `method_fields`: settings that the paper's own method has on this data set: (("cliptrase", "class_prior=true"),);
    fields that a spec sets itself win. `dataset_fields`: settings of the data set, such as the paper's own convention
    for its labels.

    `published`: whether the numbers of this very data set are released ones; `departures`, where we leave them.
    """

    name: str
    dataset: str
    source: str
    departures: tuple[str, ...] = ()
    published: bool = True

    size: str | None = "short:336"
    resampling: str = OPENCV
    windows: Windows = Slide(crop=224, stride=112)
    templates: str = "openai-80"
    words: str = "names"
    scale: float = 40.0
    threshold: float = 0.0
    smallest_area: float = 0.0
    refine: Refiner = NoRefiner()
    scored: Scored = "original"
    metric: Convention = "mmseg"
    matching: Matching = "none"
    empty: Empty = "scored"
    positions: str | None = None
    method_fields: tuple[tuple[str, str], ...] = ()
    dataset_fields: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        size = None if self.size is None else as_size(self.size)
        if self.resampling not in (*RESAMPLING, OPENCV):
            raise unknown_name("resampling", self.resampling, (*RESAMPLING, OPENCV))
        if self.positions is not None and self.positions not in POSITIONS:
            raise unknown_name("position interpolation", self.positions, POSITIONS)
        if self.metric not in CONVENTIONS:
            raise unknown_name("metric convention", self.metric, CONVENTIONS)
        if self.scored == "crop" and (size is None or size.short is None or self.resampling == OPENCV):
            raise ValueError(
                "with scored=crop the middle square of an image of that short side is seen and scored, so `size` "
                f"should be short:N and `resampling` one of {', '.join(RESAMPLING)}; got size={self.size}, "
                f"resampling={self.resampling}."
            )
        load_templates(self.templates)

    def changed(self, settings: Mapping[str, str]) -> Protocol:
        """The protocol with fields set from texts: {"threshold": "0.2", "windows": "slide(crop=448,stride=224)"}."""
        hints = typing.get_type_hints(type(self))
        known = [entry.name for entry in dataclasses.fields(self) if entry.name not in (*ABOUT, *FIXED)]
        values: dict[str, Any] = {}
        for name, text in settings.items():
            key = name.replace("-", "_")
            if key not in known:
                raise unknown_name(f"setting of protocol `{self.name}`", name, known)
            values[key] = convert(text, hints[key], f"`{name}` of protocol `{self.name}`")
        if not values:
            return self
        departures = tuple(f"{CHANGED}{key}={_plain(value)}" for key, value in values.items())
        return replace(self, **values, departures=(*self.departures, *departures), published=False)

    def settings(self) -> dict[str, Any]:
        """The fields that shape numbers, as JSON has them."""
        return {
            entry.name: _plain(getattr(self, entry.name))
            for entry in dataclasses.fields(self)
            if entry.name not in ABOUT
        }

    def content(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """Settings with the sentences and words that the names stand for."""
        words = {"classes": [list(words) for words in vocabulary.classes], "background": vocabulary.background}
        return self.settings() | {"sentences": list(load_templates(self.templates)), "vocabulary": words}

    def hash(self, vocabulary: Vocabulary) -> str:
        """Ten hexadecimal digits over the content: equal for equal settings, sentences and words, whatever the name."""
        content = {"format": FORMAT, **self.content(vocabulary)}
        for name in ("templates", "words"):  # what they stand for counts, not what they are called
            content.pop(name)
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)


@dataclass(frozen=True, kw_only=True)
class Protocols:
    """One paper's protocol: its setting on each data set, and one for data sets that it does not know.

    `elsewhere` stands for data sets of the user's own, and with `everywhere` for every other as well.
    """

    summary: str
    known: Mapping[str, Protocol]
    elsewhere: Protocol
    everywhere: bool = False


def table(name: str, source: str, rows: Mapping[str, Mapping[str, Any]], **common: Any) -> dict[str, Protocol]:
    """A protocol for each row: data set -> what differs there from `common`."""
    return {
        dataset: Protocol(name=name, dataset=dataset, source=source, **{**common, **row})
        for dataset, row in rows.items()
    }
