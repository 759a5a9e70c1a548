"""Methods on a data set under a protocol: numbers that can be stopped, shared out, and made again to the last pixel."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from diagnostics.backbones import Backbone, load_backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images.feed import progress_bar
from diagnostics.registry import parse_spec, split_specs
from diagnostics.studies.store import OtherRun
from segment.datasets import open_dataset
from segment.datasets.base import Dataset
from segment.evaluation.engines import Engine
from segment.evaluation.engines.local import Local, device_of
from segment.evaluation.job import Job, packed, segmenter_of, with_protocol
from segment.evaluation.protocols import Protocol, protocol_for, vocabulary_for
from segment.evaluation.results import Cell, cell_numbers, versions, write_cells
from segment.evaluation.shards import FOLDER, Shard, cut, finished, read_shard, shard_size
from segment.evaluation.storage import Storage, storage_at
from segment.evaluation.tallies import Total, final_matrix, matching_of, resampled
from segment.method import TextFeatures
from segment.text.class_head import RowMap
from segment.text.features import text_features

NOTE, WORDS = "run.json", "words.npz"
FORMAT = 1
# What stands for a data set that is given as a value and not by name.
OWN = "folder"


class Evaluation(NamedTuple):
    """What a run found: a cell for each method, and the images that could not be read or scored, with the reason."""

    cells: list[Cell]
    broken: dict[str, str]


def evaluate(
    backbone: str | Backbone,
    methods: str | Sequence[str],
    dataset: str | Dataset,
    protocol: str | Protocol = "ours",
    *,
    out: str | Path,
    root: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
    limit: int | None = None,
    engine: Engine | None = None,
    device: str = "auto",
    precision: str = "fp32",
    batch: int = 8,
    shard: int | None = None,
    threads: int = 1,
    rows: RowMap | str | Path | None = None,
    boundary: bool = True,
    export: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Scores methods on a data set, in shards of images, into the folder (or fsspec URL) `out`.

    `methods`: specs, which share one forward pass. `dataset`: a spec of segment.datasets below `root`, or a Dataset.
    `protocol`: a name of segment.evaluation.protocols, of which `settings` change fields, or a Protocol. `limit` takes
    the first images only. `engine` says who works (segment.evaluation.engines): processes of this machine by default.

    A run that was stopped, wherever, goes on with the shards that are missing, and ends with the same counts to the
    last pixel, with any number of workers; `out` with other settings raises OtherRun. What may move a pixel is another
    kind of machine or GPU, another `batch`, or a batch that had to be halved since memory ran out; `threads` of torch
    in each worker are among the settings. An image that can't be read or scored is named and counts nowhere.
    `export`: where label maps go, in the data set's own encoding. ValueError where no image can be scored.
    """
    plan = _planned(
        backbone, methods, dataset, protocol, out=out, root=root, settings=settings or {}, limit=limit, device=device,
        precision=precision, batch=batch, shard=shard, threads=threads, rows=rows, boundary=boundary, export=export,
    )  # fmt: skip
    job, storage, shards = plan.job, plan.storage, plan.shards
    total = Total(job.methods, len(job.dataset.names))
    done: set[Shard] = set()
    for result in finished(storage, shards, job.run, exported=job.export):
        total.add(result)
        done.add(result.shard)
    missing = [one for one in shards if one not in done]
    engine = engine or Local()
    keep: dict[str, Any] = {}
    if isinstance(engine, Local) and engine.count(job.device, len(missing)) == 1:
        keep = {"backbone": plan.backbone}
    else:  # workers load their own, and get the memory of this one
        plan = replace(plan, backbone=None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    _work(engine, plan, missing, total, keep, progress=progress)
    if not total.names:
        nothing = f"`{min(total.skipped, default='')}` shows nothing but background, which empty=skipped leaves out"
        first = next(iter(total.broken.values()), nothing)
        raise ValueError(f"none of the {job.images} images can be scored. The first: {first}")
    cells = _cells(plan, total)
    write_cells(storage, cells)
    return Evaluation(cells, dict(total.broken))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A run that is ready to start."""

    job: Job
    storage: Storage
    shards: list[Shard]
    settings: dict[str, Any]
    backbone: Backbone | None


def _planned(
    backbone: str | Backbone,
    methods: str | Sequence[str],
    dataset: str | Dataset,
    protocol: str | Protocol,
    *,
    out: str | Path,
    root: str | Path | None,
    settings: Mapping[str, str],
    limit: int | None,
    device: str,
    precision: str,
    batch: int,
    shard: int | None,
    threads: int,
    rows: Any,
    boundary: bool,
    export: str | Path | None,
) -> _Plan:
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` should be at least 1 image; got {limit}.")
    if threads < 1:
        raise ValueError(f"`threads` should be at least 1; got {threads}.")
    spec = dataset if isinstance(dataset, str) else OWN
    protocol = protocol_for(protocol, spec, settings) if isinstance(protocol, str) else protocol.changed(settings)
    if isinstance(dataset, str):
        spec = _with_fields(dataset, protocol)
        dataset = open_dataset(spec, root)
    vocabulary = vocabulary_for(protocol.words, parse_spec(spec)[0], dataset)
    names = [dataset.sample_name(number) for number in range(len(dataset))]
    if len(set(names)) < len(names):
        raise ValueError(f"names of images should be unique within a data set; `{spec}` has some twice.")
    images = min(len(names), limit or len(names))
    if not images:
        raise ValueError(f"data set `{spec}` has no images.")
    if isinstance(backbone, str):
        kind = "bf16" if precision == "bf16" else "fp32"
        backbone = load_backbone(backbone, device=device_of(device, 0), precision=kind)  # type: ignore[arg-type]
    else:
        precision = "bf16" if backbone.dtype == torch.bfloat16 else "fp32"
    storage = storage_at(out)
    wanted = tuple(split_specs(methods)) if isinstance(methods, str) else tuple(methods)
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"each method should be named once; got {', '.join(wanted)}.")
    specs = with_protocol(wanted, protocol)
    shards = cut(images, shard or shard_size(images))
    told: dict[str, Any] = {
        "format": FORMAT,
        "backbone": backbone.spec,
        "weights": fingerprint(backbone.model),
        "precision": precision,
        "dataset": {
            "name": spec,
            "classes": list(dataset.names),
            "ignore": dataset.ignore,
            "background": dataset.background,
            "has": len(names),
            "images": images,
            "list": hashlib.sha256("\n".join(names[:images]).encode()).hexdigest()[:16],
        },
        "protocol": {"name": protocol.name, "hash": protocol.hash(vocabulary), **protocol.content(vocabulary)},
        "rows": None if rows is None else str(rows),
        "shard": shards[0].stop,
        "threads": threads,
        "boundary": boundary,
    }
    # A backbone without text tower leaves templates aside; its own head's rows are words' features.
    text = _words(storage, told, lambda: text_features(backbone, vocabulary, protocol.templates, rows=rows))
    # Built here once, so that whatever does not fit is told before any worker starts.
    segmenter = segmenter_of(backbone, specs, text, protocol, batch=batch)
    told["methods"] = segmenter.settings()["methods"]
    told = json.loads(json.dumps(told))
    run = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    _claim(storage, told)
    job = Job(
        backbone=backbone.spec,
        device=device,
        precision=precision,
        methods=specs,
        dataset=dataset,
        dataset_name=parse_spec(spec)[0],
        protocol=protocol,
        words=packed(text),
        weights=told["weights"],
        batch=batch,
        threads=threads,
        boundary=boundary,
        run=run,
        images=images,
        out=storage.place,
        export="" if export is None else storage_at(export).place,
    )
    return _Plan(job=job, storage=storage, shards=shards, settings=told, backbone=backbone)


def _with_fields(dataset: str, protocol: Protocol) -> str:
    """The spec with the settings that the protocol has for this data set; those of the spec itself win."""
    name, fields = parse_spec(dataset)
    every = dict(protocol.dataset_fields) | fields
    return name + (":" if every else "") + ",".join(f"{key}={value}" for key, value in every.items())


def _words(storage: Storage, told: Mapping[str, Any], make: Any) -> TextFeatures:
    """The words' features of the run: those that it started with, so that a run that goes on has the very same."""
    if storage.exists(NOTE) and storage.exists(WORDS):
        known = json.loads(storage.read(NOTE))
        if all(known.get(key) == json.loads(json.dumps(value)) for key, value in told.items()):
            with np.load(io.BytesIO(storage.read(WORDS)), allow_pickle=False) as arrays:
                return TextFeatures(
                    features=torch.from_numpy(arrays["features"]),
                    owners=torch.from_numpy(arrays["owners"]),
                    names=tuple(json.loads(arrays["about"].tobytes())["names"]),
                    background=told["dataset"]["background"],
                    logit_scale=float(arrays["logit_scale"]),
                )
    _refuse_other(storage, told)
    text: TextFeatures = make()
    file = io.BytesIO()
    about = json.dumps({"names": text.names}).encode()
    arrays_of = packed(text)
    np.savez_compressed(
        file,
        features=arrays_of["features"],
        owners=arrays_of["owners"],
        logit_scale=np.float64(text.logit_scale),
        about=np.frombuffer(about, np.uint8),
    )
    storage.write(WORDS, file.getvalue())
    return text


def _refuse_other(storage: Storage, told: Mapping[str, Any]) -> None:
    """OtherRun if the folder holds a run whose settings differ, with the names of those that do.

    One that was stopped before its first shard should not stand in the way of the corrected one.
    """
    if not storage.exists(NOTE) or not storage.list(FOLDER):
        return
    known = json.loads(storage.read(NOTE))
    other = _differences(known, json.loads(json.dumps(told)))
    if other:
        raise OtherRun(
            f"`{storage.place}` holds an evaluation with other settings ({', '.join(other)}). Choose another --out, or "
            "delete it."
        )


def _claim(storage: Storage, told: dict[str, Any]) -> None:
    _refuse_other(storage, told)
    if not storage.exists(NOTE) or json.loads(storage.read(NOTE)) != told:
        storage.write(NOTE, json.dumps(told, indent=1, ensure_ascii=False).encode())


def _differences(known: Mapping[str, Any], wanted: Mapping[str, Any], before: str = "") -> list[str]:
    """Names of the settings of `wanted` that are others in `known`: `protocol.threshold`."""
    found = []
    for key, value in wanted.items():
        there = known.get(key)
        if isinstance(value, dict) and isinstance(there, dict) and key != "methods":
            found += _differences(there, value, f"{before}{key}.")
        elif there != value:
            found.append(f"{before}{key}")
    return found


def _work(
    engine: Engine, plan: _Plan, missing: list[Shard], total: Total, keep: dict[str, Any], *, progress: bool
) -> None:
    """Has the missing shards done and adds them up."""
    job = plan.job
    partly: dict[Shard, int] = {}
    convention, matching = job.protocol.metric, job.protocol.matching
    with progress_bar(f"evaluate {job.dataset_name}", job.images, done=total.done, shown=progress) as bar:

        def tell() -> None:
            bar.update(total.done + sum(partly.values()) - bar.n)

        def seen(shard: Shard, done: int) -> None:
            partly[shard] = done
            tell()

        for shard in engine.run(job, missing, seen, **keep):
            total.add(read_shard(plan.storage, shard, job.run))
            partly.pop(shard, None)
            tell()
            scores = total.miou(convention, matching).items()
            bar.set_postfix_str("mIoU " + ", ".join(f"{method} {100 * value:.2f}" for method, value in scores))


def _cells(plan: _Plan, total: Total) -> list[Cell]:
    job, told = plan.job, plan.settings
    protocol = job.protocol
    methods = list(total.tallies)
    matchings = [matching_of(total.tallies[method].matrix, protocol.matching) for method in methods]
    bootstrap = resampled(plan.storage, plan.shards, job.run, methods, matchings)
    made_with = versions()
    cells = []
    for method, matching, samples in zip(methods, matchings, bootstrap, strict=True):
        tally = total.tallies[method]
        names = job.dataset.names
        # Outlines of clusters can't be told apart once clusters are merged with classes; without matching they can.
        boundary = tally.boundary if job.boundary and matching is None else None
        cells.append(
            Cell(
                method=method,
                dataset=told["dataset"]["name"],
                backbone=job.backbone,
                protocol=protocol.name,
                hash=told["protocol"]["hash"],
                published=protocol.published,
                departures=protocol.departures,
                matching=None
                if matching is None
                else {names[cluster]: names[number] for cluster, number in enumerate(matching)},
                images={
                    "scored": len(total.names),
                    "broken": len(total.broken),
                    "skipped": len(total.skipped),
                    "asked": job.images,
                    "has": told["dataset"]["has"],
                },
                broken=dict(sorted(total.broken.items())),
                seconds=round(total.seconds, 3),
                settings=told,
                versions=made_with,
                run=job.run,
                **cell_numbers(
                    final_matrix(tally.matrix, protocol.matching),
                    boundary,
                    samples.interval(protocol.metric),
                    names,
                    protocol.metric,
                ),
            )
        )
    return cells
