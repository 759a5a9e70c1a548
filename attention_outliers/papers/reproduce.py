"""Runs what is missing of an experiment, and gathers the numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from attention_outliers.papers.cost import SECONDS, Cost, cost_of
from attention_outliers.papers.experiment import Experiment, TableCell
from attention_outliers.papers.plan import Group, Roots, Selection, find_root, groups, methods_of
from attention_outliers.papers.row_errors import reason_of
from attention_outliers.papers.trial import try_methods, windows_of
from attention_outliers.papers.whole_images import class_token_accuracy, open_whole_images
from diagnostics.backbones import Backbone, load_backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images.feed import progress_bar
from diagnostics.registry import parse_spec
from segment.evaluation.engines import Engine
from segment.evaluation.engines.local import device_of
from segment.evaluation.evaluate import evaluate
from segment.evaluation.results import ResultCell, read_cells
from segment.evaluation.storage import Storage, storage_at

RUNS, PARTS, COSTS = "runs", "classified", "costs"
# Fields of segment.evaluation.results.ResultCell that are shares of one; tables have percent.
PERCENT = 100

Where = tuple[str, str]


class ReproduceKeywords(TypedDict, total=False):
    """The options of each run of a reproduction as keywords."""

    limit: int | None
    batch: int
    device: str
    precision: str
    threads: int
    progress: bool


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """How runs are made; see segment.evaluation.evaluate. `seconds` is how long a speed is measured."""

    device: str = "auto"
    precision: str = "fp32"
    batch: int = 8
    threads: int = 1
    engine: Engine | None = None
    progress: bool = False
    seconds: float = SECONDS


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What was found of an experiment.

    `ours`: (row, column) -> number, in the paper's unit. `partly`: cells of only some of the images. `reasons`:
    cells that were asked for and have no number, with why.
    """

    experiment: Experiment
    choice: Selection
    ours: dict[Where, float] = field(default_factory=dict)
    partly: set[Where] = field(default_factory=set)
    reasons: dict[Where, str] = field(default_factory=dict)

    def put(self, place: TableCell, value: float | None, *, whole: bool = True) -> None:
        """Notes a number; None is one that is not defined."""
        where = (place.row.name, place.column.name)
        if value is None:
            self.reasons[where] = "not defined: no class occurs"
            return
        self.ours[where] = value
        if not whole:
            self.partly.add(where)

    def refuse(self, places: Sequence[TableCell], reason: str) -> None:
        """Notes why there are no numbers."""
        for place in places:
            self.reasons[place.row.name, place.column.name] = reason


def reproduce(
    experiment: Experiment,
    choice: Selection,
    *,
    out: str | Path,
    roots: Roots | None = None,
    how: ReproduceOptions | None = None,
) -> Reproduction:
    """Measures the cells of an experiment that `out` does not have yet, and gives back all of them.

    Methods on the same data set under the same protocol share one run and its forward pass; what another experiment
    left in `out` is not run again. An interrupted run resumes. A method that can't run, whatever the error, weights
    that can't be had and data that aren't there are named in `reasons`, and the rest goes on. A full disk stops all.
    """
    result = Reproduction(experiment=experiment, choice=choice)
    grouped, left_out = groups(experiment, choice)
    result.reasons.update(left_out)
    bench = _Bench(str(out), roots or {}, how or ReproduceOptions(), choice)
    run: Callable[[Reproduction, Group, list[TableCell]], None] = {
        "segment": bench.segment,
        "classify": bench.classify,
        "cost": bench.cost,
    }[experiment.kind]
    for group, places in grouped.items():
        run(result, group, places)
    return result


class _Bench:
    """Where runs of one call are made; it keeps the last backbone, which mostly serves the next one as well."""

    def __init__(self, out: str, roots: Roots, how: ReproduceOptions, choice: Selection) -> None:
        self.out, self.roots, self.how, self.choice = out.rstrip("/"), roots, how, choice
        self._loaded: tuple[str, Backbone | str] = ("", "")
        self._tried: dict[tuple[str, str, tuple[int, int]], str] = {}

    def segment(self, result: Reproduction, group: Group, places: list[TableCell]) -> None:
        backbone = self._backbone(group.backbone)
        cells = self._known(group, backbone)
        missing = [method for method in methods_of(places) if group.named(method) not in cells]
        refused: dict[str, str] = {}
        if missing:
            fresh, refused = self._run(group, backbone, missing)
            cells |= {cell.method: cell for cell in fresh}
        for place in places:
            cell = cells.get(group.named(place.row.method))
            if cell is None:
                result.refuse([place], refused[place.row.method])
                continue
            share = getattr(cell, place.column.metric)
            result.put(place, None if share is None else PERCENT * share, whole=cell.whole)

    def _run(
        self, group: Group, backbone: Backbone | str, missing: list[str]
    ) -> tuple[list[ResultCell], dict[str, str]]:
        """Cells of the methods that run, and why others don't."""
        if isinstance(backbone, str):
            return [], dict.fromkeys(missing, backbone)
        try:
            root = find_root(group.dataset, self.roots)
        except Exception as error:
            return [], dict.fromkeys(missing, reason_of(error))
        refused = self._refused(backbone, missing, group)
        methods = [method for method in missing if method not in refused]
        if not methods:
            return [], refused
        try:
            return self._evaluated(group, backbone, methods, root), refused
        except Exception as error:
            reason = reason_of(error)
            if len(methods) == 1:
                return [], refused | {methods[0]: reason}
        cells = []
        for method in methods:  # which of them can't run shows when each runs alone
            try:
                cells += self._evaluated(group, backbone, [method], root)
            except Exception as error:
                refused[method] = reason_of(error)
        return cells, refused

    def _evaluated(self, group: Group, backbone: Backbone, methods: list[str], root: Path | None) -> list[ResultCell]:
        """Cells of methods that share one run; an error where one of them, or the data, stops it."""
        folder = group.folder([*methods, fingerprint(backbone.model), self.how.precision], self.choice.limit)
        return evaluate(
            backbone,
            methods,
            group.dataset,
            group.protocol,
            out=f"{self.out}/{RUNS}/{folder}",
            root=root,
            settings=dict(group.settings),
            limit=self.choice.limit,
            engine=self.how.engine,
            device=self.how.device,
            precision=self.how.precision,
            batch=self.how.batch,
            threads=self.how.threads,
            boundary=False,
            progress=self.how.progress,
        ).cells

    def _refused(self, backbone: Backbone, methods: list[str], group: Group) -> dict[str, str]:
        """Why methods can't run, by what they say to one window; asked once for each size of windows."""
        window = windows_of(group.protocol_value(), backbone.native_size).window
        # By what the protocol makes of a method: another protocol may set other layers for the same spec.
        keys = {method: (group.backbone, group.named(method), window) for method in methods}
        new = [method for method in methods if keys[method] not in self._tried]
        trial = try_methods(backbone, new, group)
        self._tried |= {keys[method]: trial.refused.get(method, "") for method in new}
        reasons = {method: self._tried[keys[method]] for method in methods}
        return {method: reason for method, reason in reasons.items() if reason}

    def _known(self, group: Group, backbone: Backbone | str) -> dict[str, ResultCell]:
        """The cells that are there already, by method: same images, weights, precision and protocol."""
        try:
            cells = read_cells(f"{self.out}/{RUNS}")
        except (ValueError, FileNotFoundError):
            return {}
        protocol = group.protocol_value()
        name, fields = parse_spec(group.dataset)
        fields = dict(protocol.dataset_fields) | fields
        wanted: dict[str, Any] = json.loads(json.dumps(protocol.settings()))
        spec, weights = group.backbone, None
        if not isinstance(backbone, str):
            spec, weights = backbone.spec, fingerprint(backbone.model)
        return {
            cell.method: cell
            for cell in cells
            if parse_spec(cell.dataset) == (name, fields)
            and cell.backbone == spec
            and weights in (None, cell.settings["weights"])
            and cell.settings["precision"] == self.how.precision
            and cell.images["asked"] == min(self.choice.limit or cell.images["has"], cell.images["has"])
            and all(cell.settings["protocol"].get(key) == value for key, value in wanted.items())
        }

    def classify(self, result: Reproduction, group: Group, places: list[TableCell]) -> None:
        backbone = self._backbone(group.backbone)
        if isinstance(backbone, str):
            result.refuse(places, backbone)
            return
        name = parse_spec(group.dataset)[0]
        try:
            images = open_whole_images(name, self.roots.get(name, self.roots.get("")))
        except Exception as error:
            result.refuse(places, reason_of(error))
            return
        storage = storage_at(f"{self.out}/{PARTS}")
        for way in methods_of(places):
            cells = [place for place in places if place.row.method == way]
            try:
                shares = class_token_accuracy(
                    backbone,
                    images,
                    [way],
                    storage,
                    limit=self.choice.limit,
                    batch=self.how.batch,
                    progress=self.how.progress,
                )
            except Exception as error:
                result.refuse(cells, reason_of(error))
                continue
            whole = self.choice.limit is None or self.choice.limit >= images.count
            for place in cells:
                result.put(place, shares[way][place.column.metric], whole=whole)

    def cost(self, result: Reproduction, group: Group, places: list[TableCell]) -> None:
        backbone = self._backbone(group.backbone)
        if isinstance(backbone, str):
            result.refuse(places, backbone)
            return
        storage = storage_at(f"{self.out}/{COSTS}")
        methods = methods_of(places)
        trial = try_methods(backbone, methods, group)
        with progress_bar(f"cost on {backbone.spec}", len(trial.methods), shown=self.how.progress) as bar:
            for method in methods:
                cells = [place for place in places if place.row.method == method]
                if method in trial.refused:
                    result.refuse(cells, trial.refused[method])
                    continue
                try:
                    cost = self._cost(storage, backbone, method, group)
                except Exception as error:
                    result.refuse(cells, reason_of(error))
                    continue
                for place in cells:
                    result.put(place, getattr(cost, place.column.metric))
                bar.update()

    def _cost(self, storage: Storage, backbone: Backbone, method: str, group: Group) -> Cost:
        settings = [*group, method, self.how.precision, str(backbone.device), torch.get_num_threads(), self.how.batch]
        name = f"{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}.json"
        if storage.exists(name):
            return Cost(**json.loads(storage.read(name))["cost"])
        cost = cost_of(backbone, method, group, batch=self.how.batch, seconds=self.how.seconds)
        storage.write(name, json.dumps({"of": settings, "cost": cost._asdict()}, indent=1).encode())
        return cost

    def _backbone(self, spec: str) -> Backbone | str:
        """The backbone, or why it can't be had."""
        if self._loaded[0] != spec:
            self._loaded = ("", "")  # the old one goes before the new one comes
            self._loaded = (spec, self._load(spec))
        return self._loaded[1]

    def _load(self, spec: str) -> Backbone | str:
        try:
            kind = "bf16" if self.how.precision == "bf16" else "fp32"
            return load_backbone(spec, device=device_of(self.how.device, 0), precision=kind)  # type: ignore[arg-type]
        except Exception as error:
            return reason_of(error)
