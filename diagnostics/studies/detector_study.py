"""Everything that a comparison of detectors can ask of images, as tables; checked before the work begins."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import xarray as xr

from diagnostics.backbones.base import Backbone
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.purifiers import PURIFIERS
from diagnostics.studies.agreement import agreement_table
from diagnostics.studies.location import location_table, patch_places
from diagnostics.studies.planting import planted_scores
from diagnostics.studies.purification import purification_table
from diagnostics.studies.scoring import prepare_run, ready_detectors, score_images
from diagnostics.studies.stability import stability_table
from diagnostics.studies.thresholds import threshold_table
from diagnostics.studies.truth import truth_table


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked beside thresholds, agreement and places.

    `planted`: numbers of outliers put into every image, for each of `clustered` (side by side, or scattered).
    `truth_norm`: patches whose norm is above it are taken as outliers to be found. `purify`: detectors whose outliers
    are purified by each of `purifiers`; `accuracy` has `classes` and `truth` of `purification_table`. `labels`: a
    folder of label maps, in which `ignore` stands for no class and `background` for background.
    """

    thresholds: int = 20
    planted: Sequence[int] = ()
    clustered: Sequence[bool] = (False,)
    truth_norm: float | None = None
    stability: bool = True
    purify: Sequence[str] = ()
    purifiers: Sequence[str] = ()
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    labels: Path | None = None
    ignore: Collection[int] = (255,)
    background: Collection[int] = (0,)


class DetectorStudy:
    """Tables of detectors on images, one at a time: the caller can keep each before the next is made.

    `scores` and `left_out` (name -> reason) are known once the first table is; `planted` are the scores of the
    outliers planted last.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Sequence[str],
        detectors: Sequence[str],
        questions: Questions,
        *,
        options: RunOptions | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> None:
        options = run_options("DetectorStudy", options, keywords, uses=("layers", "size", "batch", "progress"))
        self.backbone, self.images, self.detectors, self.questions = backbone, images, list(detectors), questions
        # The norms that `truth_norm` asks for come from the same pass.
        norms = ["norm"] if questions.truth_norm is not None else []
        self.scored = list(dict.fromkeys([*self.detectors, *norms]))
        run = prepare_run(backbone, images, [*self.scored, *questions.purify], options)
        self.size = run.size
        self._check(min(layout.count for layout in run.layouts))
        self.options: dict[str, Any] = {"options": options, "fitted": ready_detectors(backbone, run, {})}
        self.scores = self.planted = xr.Dataset()
        self.left_out: dict[str, str] = {}

    def _check(self, patches: int) -> None:
        """ValueError for what could not be done later: before the work, not after it."""
        asked = self.questions
        if any(not 0 < count <= patches for count in asked.planted):
            raise ValueError(
                f"`--plant` should be from 1 to the {patches} patches of the smallest image; got {list(asked.planted)}."
            )
        if asked.truth_norm is not None and not isfinite(asked.truth_norm):
            raise ValueError(f"`--truth-norm` should be a finite number, such as 100; got {asked.truth_norm}.")
        for spec in asked.purifiers:
            PURIFIERS.build(spec)

    def __iter__(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Name and table; `planted` comes again, longer, for each number that is planted."""
        for name, table in self._tables():
            table.attrs = {"backbone": self.backbone.spec, "size": str(self.size)}
            yield name, table

    def _tables(self) -> Iterator[tuple[str, pd.DataFrame]]:
        asked = self.questions
        everything = score_images(self.backbone, self.images, self.scored, **self.options)
        self.scores = scores = everything.sel(detector=self.detectors)
        places = patch_places(
            scores,
            self.images,
            patch_size=self.backbone.patch_size,
            labels=asked.labels,
            background=asked.background,
            ignore=asked.ignore,
        )
        self.left_out = scores.attrs["left_out"] | places.attrs.get("not_labeled", {})
        yield "thresholds", threshold_table(scores, thresholds=asked.thresholds, places=places)
        yield "agreement", agreement_table(scores)
        yield "seconds", scores["seconds"].to_series().rename_axis("detector").reset_index()
        yield "location", location_table(scores, places)
        if asked.truth_norm is not None:
            yield "truth", truth_table(scores, everything["score"].sel(detector="norm", drop=True) > asked.truth_norm)
        yield from self._planted()
        if asked.stability:
            yield "stability", stability_table(self.backbone, self.images, self.detectors, **self.options)
        if asked.purify:
            yield "purification", self._purification()

    def _planted(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """The table against the truth, for each arrangement and number of planted outliers."""
        tables = []
        for clustered in self.questions.clustered if self.questions.planted else ():
            for plant, scores in planted_scores(
                self.backbone, self.images, self.detectors, self.questions.planted, clustered=clustered, **self.options
            ):
                self.planted = scores
                table = truth_table(scores, scores["planted"])
                tables.append(table.assign(planted=plant.count, clustered=clustered))
                yield "planted", pd.concat(tables, ignore_index=True)

    def _purification(self) -> pd.DataFrame:
        """What purifying does, for each detector whose outliers are purified."""
        asked = self.questions
        settings: dict[str, Any] = {"purifiers": list(asked.purifiers), "labels": asked.labels, "ignore": asked.ignore}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # `left_out` has what they say
            tables = [
                purification_table(
                    self.backbone, self.images, detector=spec, **settings, **asked.accuracy, **self.options
                ).assign(detector=spec)
                for spec in dict.fromkeys(asked.purify)
            ]
        return pd.concat(tables, ignore_index=True)
