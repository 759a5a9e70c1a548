"""Methods on a data set under a protocol: numbers that can be stopped, shared out, and made again to the last pixel."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch

from diagnostics.backbones import Backbone, load_backbone, loads_anywhere
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.below import leads_out
from diagnostics.images.content import READERS, joined
from diagnostics.images.feed import progress_bar
from diagnostics.json_object import DamagedFile, json_object
from diagnostics.options import RunOptions
from diagnostics.registry import parse_spec, split_specs
from diagnostics.studies.store import OtherRun
from segment.datasets import open_dataset
from segment.datasets.base import Dataset
from segment.evaluation.engines import Engine
from segment.evaluation.engines.local import Local, device_of
from segment.evaluation.job import Job, MethodSpec, packed, segmenter_of
from segment.evaluation.options import HEEDED, EvaluationKeywords, EvaluationOptions
from segment.evaluation.protocols import Protocol, protocol_for, vocabulary_for
from segment.evaluation.results import ResultCell, cell_numbers, versions, write_cells
from segment.evaluation.shards import FOLDER, Shard, cut, finished, read_shard, shard_size
from segment.evaluation.storage import Storage, storage_at
from segment.evaluation.tallies import Total, final_matrix, matching_of, resampled
from segment.method import TextFeatures
from segment.text.class_head import row_map
from segment.text.features import text_features

NOTE, WORDS = "run.json", "words.npz"
FORMAT = 2
# What stands for a data set that is given as a value and not by name.
OWN = "folder"
MOST_NAMED = 5  # classes in a warning


class Evaluation(NamedTuple):
    """What a run found: a cell for each method, and the images that could not be read or scored, with the reason."""

    cells: list[ResultCell]
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
    engine: Engine | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[EvaluationKeywords],
) -> Evaluation:
    """Scores methods on a data set, in shards of images, into the folder (or fsspec URL) `out`.

    `methods`: specs, which share one forward pass. `dataset`: a spec of segment.datasets below `root`, or a Dataset.
    `protocol`: a name of segment.evaluation.protocols, of which `settings` change fields, or a Protocol. `engine` says
    who works (segment.evaluation.engines): processes of this machine by default. Further keywords, or `options`, are
    those of EvaluationOptions: `limit`, `batch`, `device`, `precision`, `shard`, `threads`, `rows`, `boundary`,
    `export`, `progress`.

    A run that was stopped, wherever, resumes with the shards that are missing, and ends with the same counts to the
    last pixel, with any number of workers; `out` with other settings raises OtherRun. What may move a pixel is another
    kind of machine or GPU, another `batch`, or a batch that had to be halved since memory ran out; `threads` of torch
    in each worker are among the settings. An image that can't be read or scored is named and counts nowhere.
    ValueError where no image can be scored.

    Parameters
    ----------
    backbone : str or Backbone
        A spec, or a loaded model.
    methods : str or list of str
        Specs, which share the forward pass.
    dataset : str or Dataset
        A spec of `ao.DATASETS`, or labeled images of your own.
    protocol : str or Protocol
        A name of `ao.PROTOCOLS`, or a protocol.
    out : path or URL
        Folder of the run.
    root : path or None
        Where a data set on disk lies.
    settings : dict of str to str, or None
        Fields of the protocol to change: `{"threshold": "0.2"}`.
    engine : Engine or None
        Who works, such as `ao.Local(workers=2)`; None starts processes on this machine.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of EvaluationOptions, which go over `options`: `limit`, `batch`, `device`, `precision`, `threads` …

    Returns
    -------
    Evaluation
        `cells`, one for each method, with mIoU and the ends of its 95 % interval as shares; and `broken`, the
        reason by name of each image left out.

    Raises
    ------
    ValueError
        For parts and settings that do not fit, and if no image can be scored.
    OtherRun
        A ValueError: the folder holds a run with other settings.

    Examples
    --------
    >>> import tempfile
    >>> import attention_outliers as ao
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = ao.evaluate("tiny", "clip", "shapes:scenes=2", out=folder, engine=ao.Local(workers=1))
    >>> [cell.method for cell in result.cells], 0 <= result.cells[0].miou <= 1
    (['clip'], True)
    """
    chosen = EvaluationOptions.of(options).merged("evaluate", keywords, uses=HEEDED)
    data = _scored_data(dataset, protocol, settings or {}, root, chosen)
    _check_engine(engine, backbone, data, out, chosen)
    run = _prepared(backbone, methods, data, out, chosen)
    job, storage, shards = run.job, run.storage, run.shards
    total = Total(job.methods, len(job.dataset.names))
    done: set[Shard] = set()
    for result in finished(storage, shards, job.run, exported=job.export):
        total.add(result)
        done.add(result.shard)
    missing = [shard for shard in shards if shard not in done]
    engine = _engine_for(job.backbone, engine)
    keep: dict[str, Any] = {}
    if isinstance(engine, Local) and engine.count(chosen.device, len(missing)) == 1:
        keep = {"backbone": run.backbone}
    else:  # workers load their own, and get the memory of this one
        run = replace(run, backbone=None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    _work(engine, run, missing, total, keep)
    if not total.names:
        nothing = f"`{min(total.skipped, default='')}` shows nothing but background, which empty=skipped leaves out"
        first = next(iter(total.broken.values()), nothing)
        raise ValueError(f"none of the {job.images} images can be scored. The first: {first}")
    cells = _cells(run, total)
    write_cells(storage, cells)
    if job.dataset_name == OWN:
        _warn_of_absent(cells[0])
    return Evaluation(cells, dict(total.broken))


def _warn_of_absent(cell: ResultCell) -> None:
    """Names the classes of a user's own set that occur in no label map scored: most often maps of another rule."""
    absent = [f"{number} ({entry['name']})" for number, entry in enumerate(cell.classes) if not entry["true"]]
    if absent:
        more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
        warnings.warn(
            f"in none of the {cell.images['scored']} label maps scored: class {', '.join(absent[:MOST_NAMED])}{more}. "
            "`outliers datasets check` says what they hold; values=0+255 reads binary masks, first=1 maps that count "
            "from 1.",
            stacklevel=3,
        )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run that is ready to start."""

    job: Job
    storage: Storage
    shards: list[Shard]
    settings: dict[str, Any]
    backbone: Backbone | None


@dataclass(frozen=True, kw_only=True)
class _ScoredData:
    """A data set with its spec and the protocol on it: `names` of all its images, the first `images` are scored."""

    spec: str
    dataset: Dataset
    protocol: Protocol
    names: list[str]
    images: int

    @property
    def settings(self) -> dict[str, Any]:
        """What a run keeps of it."""
        return {
            "name": self.spec,
            "classes": list(self.dataset.names),
            "ignore": self.dataset.ignore,
            "background": self.dataset.background,
            "has": len(self.names),
            "images": self.images,
            "list": hashlib.sha256("\n".join(self.names[: self.images]).encode()).hexdigest()[:16],
            "contents": self.contents,
        }

    @cached_property
    def contents(self) -> str:
        """A hash of all images and label maps that are scored."""
        with ThreadPoolExecutor(READERS) as pool:
            return joined(pool.map(self.dataset.content, range(self.images)))


def _scored_data(
    dataset: str | Dataset,
    protocol: str | Protocol,
    settings: Mapping[str, str],
    root: str | Path | None,
    options: EvaluationOptions,
) -> _ScoredData:
    """The data set opened, and the protocol that holds on it."""
    spec = dataset if isinstance(dataset, str) else OWN
    protocol = protocol_for(protocol, spec, settings) if isinstance(protocol, str) else protocol.changed(settings)
    if isinstance(dataset, str):
        spec = _with_fields(dataset, protocol)
        dataset = open_dataset(spec, root)
    names = [dataset.sample_name(number) for number in range(len(dataset))]
    if len(set(names)) < len(names):
        raise ValueError(f"names of images should be unique within a data set; `{spec}` has some twice.")
    outside = next((name for name in names if leads_out(name)), None) if options.export else None
    if outside is not None:
        raise ValueError(
            f"data set `{spec}` names an image `{outside}`, which {leads_out(outside)}: its label map would be "
            "exported out of the folder. Rename it, or leave --export away."
        )
    images = min(len(names), options.limit or len(names))
    if not images:
        raise ValueError(f"data set `{spec}` has no images.")
    return _ScoredData(spec=spec, dataset=dataset, protocol=protocol, names=names, images=images)


def _loaded(backbone: str | Backbone, options: EvaluationOptions) -> tuple[Backbone, EvaluationOptions]:
    """The backbone, and the options with the precision that it has."""
    if isinstance(backbone, str):
        device = device_of(options.device, 0)
        return load_backbone(backbone, device=device, precision=options.precision), options
    return backbone, options.changed(precision="bf16" if backbone.dtype == torch.bfloat16 else "fp32")


def _check_engine(
    engine: Engine | None, backbone: str | Backbone, data: _ScoredData, out: str | Path, options: EvaluationOptions
) -> None:
    """What the engine has to say before a model is loaded; nothing where all shards are there."""
    engine = _engine_for(backbone if isinstance(backbone, str) else backbone.spec, engine)
    shards = len(cut(data.images, options.shard or shard_size(data.images))) - len(storage_at(out).list(FOLDER))
    if shards > 0:
        engine.check(options.device, shards)


def _engine_for(spec: str, engine: Engine | None) -> Engine:
    """The engine, in this process where no other one can load the backbone: a model in memory stays here."""
    if loads_anywhere(spec):
        return engine or Local()
    if engine is None or (isinstance(engine, Local) and engine.workers is None):
        return Local(workers=1)
    if isinstance(engine, Local) and engine.workers != 1:
        raise ValueError(
            f"`{spec}` is a model in memory, which other processes can't load: leave `engine` out, or give "
            "Local(workers=1)."
        )
    return engine


def _method_specs(methods: str | Sequence[str], protocol: Protocol) -> list[MethodSpec]:
    """The methods' specs, parsed, with what the protocol sets for them."""
    wanted = split_specs(methods) if isinstance(methods, str) else list(methods)
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"each method should be named once; got {', '.join(wanted)}.")
    return [MethodSpec.under(spec, protocol) for spec in wanted]


def _prepared(
    backbone: str | Backbone,
    methods: str | Sequence[str],
    data: _ScoredData,
    out: str | Path,
    options: EvaluationOptions,
) -> _Run:
    """The run with all that its workers must know; whatever does not fit is reported before any of them starts."""
    protocol, dataset_name = data.protocol, parse_spec(data.spec)[0]
    vocabulary = vocabulary_for(protocol.words, dataset_name, data.dataset)
    backbone, options = _loaded(backbone, options)
    storage = storage_at(out)
    specs = _method_specs(methods, protocol)
    shards = cut(data.images, options.shard or shard_size(data.images))
    settings: dict[str, Any] = {
        "format": FORMAT,
        "backbone": backbone.spec,
        "weights": fingerprint(backbone.model),
        **backbone.origin,
        "precision": "fp16" if backbone.dtype == torch.float16 else options.precision,
        "dataset": data.settings,
        "protocol": {"name": protocol.name, "hash": protocol.hash(vocabulary), **protocol.content(vocabulary)},
        "rows": None if options.rows is None else row_map(options.rows),
        "shard": shards[0].stop,
        "threads": options.threads,
        "boundary": options.boundary,
    }
    # A backbone without text tower leaves templates aside; its own head's rows are words' features.
    loaded = backbone
    text = _words(storage, settings, lambda: text_features(loaded, vocabulary, protocol.templates, rows=options.rows))
    settings["features"] = _fingerprint_of(text)
    segmenter = segmenter_of(backbone, [spec.method(protocol) for spec in specs], text, protocol, batch=options.batch)
    settings["methods"] = segmenter.settings()["methods"]
    settings = json.loads(json.dumps(settings))
    run = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    _claim(storage, settings)
    _keep_words(storage, text)
    job = Job(
        backbone=backbone.spec,
        options=options,
        methods=tuple(spec.text for spec in specs),
        dataset=data.dataset,
        dataset_name=dataset_name,
        protocol=protocol,
        words=packed(text),
        weights=settings["weights"],
        run=run,
        images=data.images,
        out=storage.place,
        export="" if options.export is None else storage_at(options.export).place,
    )
    return _Run(job=job, storage=storage, shards=shards, settings=settings, backbone=backbone)


def _with_fields(dataset: str, protocol: Protocol) -> str:
    """The spec with the settings that the protocol has for this data set; those of the spec itself win."""
    name, fields = parse_spec(dataset)
    every = dict(protocol.dataset_fields) | fields
    return name + (":" if every else "") + ",".join(f"{key}={value}" for key, value in every.items())


def _words(storage: Storage, settings: Mapping[str, Any], make: Callable[[], TextFeatures]) -> TextFeatures:
    """The words' features of the run: those that it started with, so that a run that resumes has the very same.

    Made again where their file is lost, damaged, or not what the run's note says.
    """
    known = _note(storage)
    if all(known.get(key) == json.loads(json.dumps(value)) for key, value in settings.items()):
        kept = _kept_words(storage, settings["dataset"]["background"])
        if kept is not None and _fingerprint_of(kept) == known.get("features"):
            return kept
    _refuse_other(storage, settings)
    return make()


def _kept_words(storage: Storage, background: int | None) -> TextFeatures | None:
    """The features in the run's file; None where there is none that can be read."""
    try:
        with np.load(io.BytesIO(storage.read(WORDS)), allow_pickle=False) as arrays:
            return TextFeatures(
                features=torch.from_numpy(arrays["features"]),
                owners=torch.from_numpy(arrays["owners"]),
                names=tuple((about := json.loads(arrays["about"].tobytes()))["names"]),
                background=background,
                logit_scale=float(arrays["logit_scale"]),
                logit_bias=about.get("logit_bias"),
            )
    except Exception:  # a lost or damaged archive fails in as many ways as zip, npy and JSON have parts
        return None


def _keep_words(storage: Storage, text: TextFeatures) -> None:
    """Writes the features beside the run's note, unless they are there."""
    kept = _kept_words(storage, text.background)
    if kept is not None and _fingerprint_of(kept) == _fingerprint_of(text):
        return
    arrays, about = packed(text), {"names": text.names, "logit_bias": text.logit_bias}
    file = io.BytesIO()
    np.savez_compressed(
        file,
        features=arrays["features"],
        owners=arrays["owners"],
        logit_scale=np.float64(text.logit_scale),
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
    )
    storage.write(WORDS, file.getvalue())


def _fingerprint_of(text: TextFeatures) -> str:
    """Tells words' features apart, to the last bit."""
    arrays = packed(text)
    bias = [] if text.logit_bias is None else [text.logit_bias]
    hashed = hashlib.sha256(json.dumps([*text.names, text.background, float(text.logit_scale), *bias]).encode())
    hashed.update(np.ascontiguousarray(arrays["features"]).tobytes())
    hashed.update(np.ascontiguousarray(arrays["owners"]).astype(np.int64).tobytes())
    return hashed.hexdigest()[:16]


def _note(storage: Storage) -> dict[str, Any]:
    """The run's note; empty where there is none, or a damaged one and nothing that depends on it."""
    if not storage.exists(NOTE):
        return {}
    try:
        return json_object(
            storage.read(NOTE),
            f"{storage.place}/{NOTE}",
            "It says which run the shards beside it are of: choose another --out, or delete the folder.",
        )
    except DamagedFile:
        if storage.list(FOLDER):
            raise
        return {}


def _refuse_other(storage: Storage, settings: Mapping[str, Any]) -> None:
    """OtherRun if the folder holds a run whose settings differ, with the names of those that do.

    One that was stopped before its first shard should not stand in the way of the corrected one.
    """
    if not storage.exists(NOTE) or not storage.list(FOLDER):
        return
    changed = _differences(_note(storage), json.loads(json.dumps(settings)))
    if changed:
        raise OtherRun(
            f"`{storage.place}` holds an evaluation with other settings ({', '.join(changed)}). Choose another --out, "
            "or delete it."
        )


def _claim(storage: Storage, settings: dict[str, Any]) -> None:
    _refuse_other(storage, settings)
    if _note(storage) != settings:
        storage.write(NOTE, json.dumps(settings, indent=1, ensure_ascii=False).encode())


def _differences(known: Mapping[str, Any], wanted: Mapping[str, Any], before: str = "") -> list[str]:
    """Names of the settings of `wanted` that are others in `known`: `protocol.threshold`."""
    names = []
    for key, value in wanted.items():
        known_value = known.get(key)
        if isinstance(value, dict) and isinstance(known_value, dict) and key != "methods":
            names += _differences(known_value, value, f"{before}{key}.")
        elif known_value != value:
            names.append(f"{before}{key}")
    return names


def _work(engine: Engine, run: _Run, missing: list[Shard], total: Total, keep: dict[str, Any]) -> None:
    """Has the missing shards done and adds them up."""
    job = run.job
    partly: dict[Shard, int] = {}
    convention, matching = job.protocol.metric, job.protocol.matching
    shown = job.options.progress
    with progress_bar(f"evaluate {job.dataset_name}", job.images, done=total.done, shown=shown) as bar:

        def move_bar() -> None:
            bar.update(total.done + sum(partly.values()) - bar.n)

        def report(shard: Shard, done: int) -> None:
            partly[shard] = done
            move_bar()

        for shard in engine.run(job, missing, report, **keep):
            total.add(read_shard(run.storage, shard, job.run))
            partly.pop(shard, None)
            move_bar()
            scores = total.miou(convention, matching).items()
            bar.set_postfix_str("mIoU " + ", ".join(f"{method} {100 * value:.2f}" for method, value in scores))


def _cells(run: _Run, total: Total) -> list[ResultCell]:
    job, settings = run.job, run.settings
    protocol = job.protocol
    methods = list(total.tallies)
    matchings = [matching_of(total.tallies[method].matrix, protocol.matching) for method in methods]
    bootstrap = resampled(run.storage, run.shards, job.run, methods, matchings)
    made_with = versions()
    cells = []
    for method, matching, samples in zip(methods, matchings, bootstrap, strict=True):
        tally = total.tallies[method]
        names = job.dataset.names
        # Outlines of clusters can't be settings apart once clusters are merged with classes; without matching they can.
        boundary = tally.boundary if job.options.boundary and matching is None else None
        cells.append(
            ResultCell(
                method=method,
                dataset=settings["dataset"]["name"],
                backbone=job.backbone,
                protocol=protocol.name,
                hash=settings["protocol"]["hash"],
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
                    "has": settings["dataset"]["has"],
                },
                broken=dict(sorted(total.broken.items())),
                seconds=round(total.seconds, 3),
                settings=settings,
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
