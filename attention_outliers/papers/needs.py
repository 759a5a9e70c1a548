"""What an experiment needs before it starts: data, weights, forward passes, and about how much time."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import HF_HUB_CACHE

from attention_outliers.papers.experiment import Experiment, TableCell
from attention_outliers.papers.plan import Group, Roots, Selection, find_root, groups, methods_of
from attention_outliers.papers.reproduce import ReproduceOptions
from attention_outliers.papers.row_errors import reason_of
from attention_outliers.papers.trial import random_windows, seconds_per_window, try_methods, windows_of
from attention_outliers.papers.whole_images import DRAWN as CLOSE_UPS
from attention_outliers.papers.whole_images import open_whole_images
from diagnostics.backbones import Backbone, load_backbone
from diagnostics.images import FileError, read_size
from diagnostics.registry import parse_spec
from segment.datasets import DATASETS, needs_root, open_dataset
from segment.datasets.check import check
from segment.datasets.on_disk import OnDisk
from segment.decoding.masks.sam import SamMasks
from segment.encoders.second_backbone import SELF
from segment.evaluation.engines.local import device_of
from segment.method import Method
from segment.methods import METHODS

# Images whose headers are read to see how many windows there are on average. Our choice.
LOOKED_AT = 50
# Where a data set of whole images is not there: how many images its test part has, and their (width, height), what most
# have or their mean. Sources: the data sets' own lists. Those with label maps declare both themselves.
WHOLE_IMAGES: dict[str, tuple[int, tuple[int, int]]] = {
    "cifar100": (10000, (32, 32)),
    "flowers102": (6149, (500, 500)),
    "pets": (3669, (500, 375)),
}
# Models of the same sizes with random weights, for the time where weights are not at hand.
SAME_SIZE = {
    "B-16": "tiny:depth=12,width=768,heads=12,patch=16,size=224",
    "B-32": "tiny:depth=12,width=768,heads=12,patch=32,size=224",
    "L-14": "tiny:depth=24,width=1024,heads=16,patch=14,size=224",
}


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one run needs.

    `data` and `weights` say in words what is there; `ready` whether both are. `images`, and `windows` of them all,
    each of which goes through the network once for all methods together (in a classification, once for each way).
    `seconds` is a guess from such a forward that was measured, for one worker; None without one. `notes`: what is to be
    said of single methods: that they can't run, or need other weights.
    """

    group: Group
    methods: tuple[str, ...]
    data: str
    weights: str
    ready: bool
    images: int
    windows: int
    seconds: float | None
    notes: dict[str, str]


def needs(
    experiment: Experiment, choice: Selection, *, roots: Roots | None = None, how: ReproduceOptions | None = None
) -> list[Need]:
    """What each run of an experiment needs, in the order in which they would be made. Nothing is downloaded or run,
    but for one measured forward of each kind.
    """
    how, roots = how or ReproduceOptions(), roots or {}
    runs = []
    backbones: dict[str, tuple[Backbone | None, str, bool]] = {}
    speeds: dict[tuple[str, tuple[str, ...], tuple[int, int]], tuple[float | None, dict[str, str]]] = {}
    for group, places in groups(experiment, choice)[0].items():
        if group.backbone not in backbones:
            backbones = {group.backbone: _backbone(group.backbone, how)}  # one at a time
        backbone, weights, at_hand = backbones[group.backbone]
        data, there, images, sizes = _data(experiment, group, roots, choice.limit)
        native = backbone.native_size if backbone else (224, 224)
        methods = tuple(methods_of(places))
        if experiment.kind == "segment":
            shapes = [windows_of(group.protocol_value(), native, size) for size in sizes]
            windows = round(images * fmean(shape.count for shape in shapes))
            key = (group.backbone, methods, shapes[0].window)
            if backbone is not None and key not in speeds:
                speeds[key] = _speed(backbone, group, methods, how)
            second, notes = speeds.get(key, (None, {}))
        else:
            windows, second, notes = _others(experiment, places, images, backbone, how)
        runs.append(
            Need(
                group=group,
                methods=methods,
                data=data,
                weights=weights,
                ready=there and at_hand,
                images=images,
                windows=windows,
                seconds=None if second is None else second * windows,
                notes=notes,
            )
        )
    return runs


def _speed(
    backbone: Backbone, group: Group, methods: tuple[str, ...], how: ReproduceOptions
) -> tuple[float | None, dict[str, str]]:
    """Seconds for a window by all methods at once, with the threads of one worker, and what there is to say of some.

    Methods whose second model would have to be fetched are not tried.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(how.threads)
    try:
        notes = {method: _other_weights(method) for method in methods}
        trial = try_methods(backbone, [method for method in methods if not notes[method]], group)
        notes |= {method: f"can't run: {reason}" for method, reason in trial.refused.items()}
        notes = {method: note for method, note in notes.items() if note}
        if not trial.methods:
            return None, notes
        images = random_windows(backbone, group, how.batch)
        try:
            return seconds_per_window(backbone, list(trial.methods.values()), images), notes
        except Exception as error:  # a batch may be too large where one window is not
            return None, notes | dict.fromkeys(trial.methods, f"no guess: {reason_of(error)}")
    finally:
        torch.set_num_threads(threads)


def _other_weights(spec: str) -> str:
    """What is to be said of the second model that a method has, where it is not at hand; "" if all is well."""
    missing = [name for name in _second_models(METHODS.build(spec)) if not _at_hand(name)]
    if not missing:
        return ""
    return f"needs {', '.join(missing)}, not in the cache: the first run fetches it; its time is not in the guess"


def _second_models(part: Any) -> list[str]:
    """Specs of the models that a method loads beside the backbone, found in its fields and its parts' fields."""
    specs = []
    for entry in dataclasses.fields(part):
        value = getattr(part, entry.name)
        if entry.name == "vfm" and value not in (None, SELF):
            specs.append(re.sub(r"^([^:()]+)\((.*)\)$", r"\1:\2", value))
        elif isinstance(part, SamMasks) and entry.name == "model":
            specs.append(f"hf-hub:{value}")
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            specs += _second_models(value)
    return specs


def _others(
    experiment: Experiment, places: list[TableCell], images: int, backbone: Backbone | None, how: ReproduceOptions
) -> tuple[int, float | None, dict[str, str]]:
    """Forwards, seconds for each, and refusals of classifications and costs."""
    ways = len(methods_of(places))
    if experiment.kind == "cost":
        return ways, how.seconds + 2, {}  # beside the clock about two seconds: our choice
    if backbone is None:
        return images * ways, None, {}
    plain: list[Method] = [METHODS["clip"]]
    group = Group(backbone.spec, "shapes", "ours", ())
    return images * ways, seconds_per_window(backbone, plain, random_windows(backbone, group, how.batch)), {}


def _data(
    experiment: Experiment, group: Group, roots: Roots, limit: int | None
) -> tuple[str, bool, int, list[tuple[int, int]]]:
    """What is there in words, whether it is whole, images that would be run, and sizes (width, height) of some."""
    name = parse_spec(group.dataset)[0]
    if experiment.kind == "cost":
        return "none: one image of noise", True, 1, [(640, 480)]
    count, usual = _declared(name)
    sizes, state, there = [usual], "", False
    try:
        if experiment.kind == "classify":
            count, there = open_whole_images(name, roots.get(name, roots.get(""))).count, True
            state = "there"
        elif not needs_root(name):
            dataset = open_dataset(group.dataset)
            count, there, state = len(dataset), True, "drawn"
            height, width = dataset[0].image.shape[:2]
            sizes = [(width, height)]
        else:
            root = find_root(group.dataset, roots)
            count, sizes, state, there = _on_disk(group.dataset, Path(str(root)))
    except Exception as error:
        state = f"MISSING: {reason_of(error)} About {count} images of {usual[0]}x{usual[1]} are assumed"
    return state, there, min(limit or count, count), sizes


def _declared(name: str) -> tuple[int, tuple[int, int]]:
    """How many images the whole data set has, and the usual (width, height), without looking at any."""
    facts = getattr(DATASETS.get(name), "declared", None)
    if name in WHOLE_IMAGES or facts is None or facts.images is None:
        return WHOLE_IMAGES.get(name, (CLOSE_UPS, (112, 112)))
    return facts.images, facts.usual or (640, 480)


def _on_disk(spec: str, root: Path) -> tuple[int, list[tuple[int, int]], str, bool]:
    """Images, sizes of some, what a check says, and whether nothing is wrong."""
    report = check(spec, root)
    dataset = open_dataset(spec, root)
    sizes = []
    if isinstance(dataset, OnDisk):
        chosen = np.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).round().astype(int)
        for number in dict.fromkeys(chosen.tolist()):
            try:
                sizes.append(read_size(dataset.listing.pairs[number].image))
            except (FileError, OSError):
                continue
    state = f"{report.images} images in {root}"
    if report.problems:
        state += f", {len(report.problems)} problems, the first: {report.problems[0]}"
    return report.images, sizes or [(640, 480)], state, report.complete


def _backbone(spec: str, how: ReproduceOptions) -> tuple[Backbone | None, str, bool]:
    """A backbone to measure with, what is known of its weights, and whether they are at hand."""
    device = device_of(how.device, 0)
    kind = "bf16" if how.precision == "bf16" else "fp32"
    if _at_hand(spec):
        try:
            return load_backbone(spec, device=device, precision=kind), "at hand", True  # type: ignore[arg-type]
        except Exception as error:
            return None, f"MISSING: {reason_of(error)}", False
    size = re.search("|".join(SAME_SIZE), spec)
    state = "not in the cache: the first run fetches them"
    if size is None:
        return None, state, False
    stand_in = load_backbone(SAME_SIZE[size[0]], device=device, precision=kind)  # type: ignore[arg-type]
    return stand_in, f"{state}; time measured with random weights of the same size", False


def _at_hand(spec: str) -> bool:
    """Whether weights are on this machine already, without asking the network. Files are tried by loading them."""
    family, _, argument = spec.partition(":")
    if "@" in argument or family in ("pocket", "tiny", "openai", "local-dir"):
        return True
    if family != "open_clip":  # hub names: whatever file of them is there
        names = [argument, f"timm/{argument}"]
        return any((Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").is_dir() for name in names)
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    architecture, _, tag = argument.partition("/")
    config = open_clip.get_pretrained_cfg(architecture, tag) or {}
    repository, _, file = config.get("hf_hub", "").rpartition("/")
    files = (file,) if file else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    if repository and any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return True
    url = config.get("url", "")
    return bool(url) and (Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]).is_file()


def described(needs: Sequence[Need]) -> list[str]:
    """What each run needs, in lines, and the sum in the last one."""
    lines = []
    for need in needs:
        group = need.group
        changed = "".join(f", {name}={value}" for name, value in group.settings)
        guess = "no guess: nothing to measure with"
        if need.seconds is not None:
            guess = f"about {in_words(need.seconds)} by one worker"
        lines += [
            f"- {group.dataset}, protocol {group.protocol}{changed}, {group.backbone}: {len(need.methods)} methods",
            f"  data: {need.data}",
            f"  weights: {need.weights}",
            f"  {need.images} images, {need.windows} windows through all methods; {guess}",
            *(f"  {method}: {note}" for method, note in need.notes.items()),
        ]
    images, windows, ready = (sum(getattr(need, name) for need in needs) for name in ("images", "windows", "ready"))
    seconds = in_words(sum(need.seconds or 0.0 for need in needs))
    whole = f"{len(needs)} runs ({ready} ready), {images} images, {windows} windows"
    return [*lines, f"{whole}, about {seconds} in all by one worker"]


def in_words(seconds: float) -> str:
    """90 -> «1.5 min»: seconds up to a minute, then minutes, hours, days."""
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.1f} s"
