"""Images with one class each, and how often a class token names it: CIFAR-100, Flowers-102, Pets, and drawn ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchvision.transforms.functional as vision
from PIL import Image
from torchvision.datasets import CIFAR100, Flowers102, OxfordIIITPet

from diagnostics.backbones import Backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images import FileError
from diagnostics.images.feed import ListedImage, progress_bar
from diagnostics.registry import parse_spec, unknown_name
from segment.classify import STOCK, accuracy_table, classify
from segment.datasets.shapes import NAMES, close_up
from segment.evaluation.storage import Storage
from segment.text.features import text_features
from segment.text.vocabulary import Vocabulary

# Source: SFP, supplement, Table 3.
TEMPLATE = "photo-of"
# Images that a stopped run can lose: our choice.
PART = 500
DRAWN = 500  # close-ups that stand for a data set; our choice


@dataclass(frozen=True, kw_only=True)
class WholeImages:
    """Images of one class each: the classes' names, how many images, and image and class number by its place."""

    names: tuple[str, ...]
    count: int
    read: Callable[[int], tuple[Image.Image, int]]


def open_whole_images(name: str, root: str | Path | None = None) -> WholeImages:
    """The test images of `cifar100`, `flowers102` or `pets` below `root` as torchvision lays them out, or `shapes`.

    Nothing is downloaded. FileError where they are not there or damaged, ValueError for another name.
    """
    if name == "shapes":
        return WholeImages(names=NAMES, count=DRAWN, read=_close_up)
    if name not in _OPEN:
        raise unknown_name("data set of whole images", name, (*_OPEN, "shapes"))
    if root is None:
        raise ValueError(f"`{name}` lies on disk: give the folder that holds it as root.")
    folder, make = _OPEN[name]
    try:
        opened = make(str(root))
    except (RuntimeError, OSError) as error:
        raise FileError(
            Path(root) / folder,
            f"does not hold `{name}` whole ({str(error).partition('.')[0]})",
            f"Fetch it with torchvision: torchvision.datasets.{_CLASSES[name]}(ROOT, …, download=True)",
        ) from error
    names = tuple(text.replace("_", " ").lower() for text in opened.classes)
    return WholeImages(names=names, count=len(opened), read=opened.__getitem__)


# CIFAR's files are pickles; torchvision reads them only after their MD5 has proved to be that of the published ones.
_OPEN: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "cifar100": ("cifar-100-python", lambda root: CIFAR100(root, train=False)),
    "flowers102": ("flowers-102", lambda root: Flowers102(root, split="test")),
    "pets": ("oxford-iiit-pet", lambda root: OxfordIIITPet(root, split="test")),
}
_CLASSES = {"cifar100": "CIFAR100", "flowers102": "Flowers102", "pets": "OxfordIIITPet"}


def _close_up(number: int) -> tuple[Image.Image, int]:
    scene = close_up(number)
    (name,) = {*scene.kinds, *scene.backgrounds}
    return Image.fromarray(scene.image), NAMES.index(name)


def squared(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle square of an image whose short side was brought to the model's, as CLIP's own preprocessing does."""
    bicubic = vision.InterpolationMode.BICUBIC
    return vision.center_crop(vision.resize(image.convert("RGB"), [min(size)], bicubic), list(size))


def class_token_accuracy(
    backbone: Backbone,
    images: WholeImages,
    ways: Sequence[str],
    storage: Storage,
    *,
    limit: int | None = None,
    batch: int = 8,
    progress: bool = False,
) -> dict[str, dict[str, float]]:
    """Share of images whose class is the first, or among the first five, in percent: way -> top1, top5.

    A way is `stock`, or a purification on the way: `purify:detector=som,purifier=sfp-sum,layers=6+7`, after every block
    but the last where no layers are named. Parts of `PART` images are kept in `storage`, and a run goes on with those
    that are missing. Source of the measurement: SFP, supplement, Table 3.
    """
    count = min(limit or images.count, images.count)
    text = text_features(backbone, Vocabulary(tuple((name,) for name in images.names)), TEMPLATE)
    rights = {way: {1: 0, 5: 0} for way in ways}
    settings = [backbone.spec, fingerprint(backbone.model), str(backbone.dtype), list(images.names), images.count]
    with progress_bar(f"classify {backbone.spec}", count, shown=progress) as bar:
        for start in range(0, count, PART):
            stop = min(start + PART, count)
            name = f"{hashlib.sha256(json.dumps([*settings, start, stop]).encode()).hexdigest()[:12]}.json"
            known = json.loads(storage.read(name)) if storage.exists(name) else {}
            missing = [way for way in ways if way not in known]
            if missing:
                known |= _counts(backbone, images, range(start, stop), missing, text, batch)
                storage.write(name, json.dumps(known, indent=1).encode())
            for way in ways:
                for top, right in zip((1, 5), known[way], strict=True):
                    rights[way][top] += right
            bar.update(stop - start)
    return {way: {f"top{top}": 100 * right / count for top, right in counts.items()} for way, counts in rights.items()}


def _counts(
    backbone: Backbone, images: WholeImages, numbers: range, ways: Sequence[str], text: Any, batch: int
) -> dict[str, list[int]]:
    """How many are right at first, and among the first five."""
    sources, truth = [], {}
    for number in numbers:
        image, label = images.read(number)
        name = f"{number:06d}"
        sources.append(ListedImage(name, squared(image, backbone.native_size)))
        truth[name] = images.names[label]
    counts = {}
    for way in ways:
        settings = purification_settings(way, backbone.depth)
        answers, _ = classify(backbone, sources, text, truth=truth, top=5, batch=batch, strict=True, **settings)
        table = accuracy_table(answers)
        wanted = STOCK if way == STOCK else settings["purifiers"][0]
        last = table.columns[-1]  # top5, or less where there are fewer classes
        shares = [table[column].to_dict()[wanted] for column in ("top1", last)]
        counts[way] = [round(share * len(numbers)) for share in shares]
    return counts


def purification_settings(way: str, depth: int) -> dict[str, Any]:
    """A way as segment.classify takes it. ValueError for a setting that it does not have."""
    name, fields = parse_spec(way)
    if name == STOCK and not fields:
        return {}
    if name != "purify" or not {"detector", "purifier"} <= set(fields) <= {"detector", "purifier", "layers"}:
        raise ValueError(
            f"`{way}` should be {STOCK}, or purify:detector=SPEC,purifier=SPEC with layers=6+7 if not all but the last."
        )
    layers = [int(text) for text in fields["layers"].split("+")] if "layers" in fields else list(range(1, depth))
    return {"detector": fields["detector"], "purifiers": [fields["purifier"]], "layers": layers}
