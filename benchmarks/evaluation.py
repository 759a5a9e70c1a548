"""What an evaluation costs beside the network: time from JPEG to counts, and memory over images and classes."""

from __future__ import annotations

import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images
from torch import Tensor

from benchmarks.ratios import random_clip, ratio, timed
from diagnostics import Backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images import as_size, normalize, resize, to_tensor
from segment.datasets import open_dataset
from segment.datasets.base import Dataset, Sample
from segment.encoders.encode_many import encode_many
from segment.evaluation.engines import Local
from segment.evaluation.evaluate import evaluate
from segment.evaluation.job import Job, Worker, packed
from segment.evaluation.options import EvaluationOptions
from segment.evaluation.protocols import Protocol, protocol_for, vocabulary_for
from segment.evaluation.shards import Shard
from segment.method import TextFeatures

# A cheap method, of the last block alone; one with two passes; and a dear one, with a second stream over half of the
# blocks.
METHODS = ("clearclip", "sc-clip", "gem")
# Six windows of 224 an image, 56 words, a threshold, and the rule of areas: the most that decoding has to do.
PROTOCOL, DATASET = "sc-clip", "voc21"
# Images of VOC 2012 are mostly 500 x 375, and some stand upright.
LANDSCAPE, UPRIGHT_EVERY = (500, 375), 4
# The largest images and the most classes that data sets have: Cityscapes', ADE20K's. Windows as ProxyCLIP has there.
LARGE, CLASSES = (2048, 1024), 847
LARGE_SETTINGS = {"templates": "plain", "size": "short:448", "windows": "slide(crop=336,stride=112)"}


class Cost(NamedTuple):
    """Times relative to the stock forward of the same windows, and to the method's own; seconds for an image."""

    to_stock: float
    to_own: float
    seconds: float


def end_to_end(backbone: Backbone, *, images: int, batch: int, rounds: int) -> dict[str, Cost]:
    """Each method on VOC21, from JPEG on disk to a shard's file: all but loading weights and encoding words.

    On a CPU seconds are those of the processor in all threads, since by default every core has a worker of its own:
    what one hides behind its network, it takes from another. On a GPU they are those of a clock.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_voc(folder, images)
        dataset = open_dataset(DATASET, folder)
        protocol = protocol_for(PROTOCOL, DATASET)
        batches = _windows(backbone, dataset, protocol, batch)

        def stock() -> None:
            with torch.no_grad():
                for windows in batches:
                    backbone.model.encode_image(windows)  # type: ignore[operator]

        def alone(method: str) -> Callable[[], None]:
            def forward() -> None:
                for windows in batches:
                    encode_many(backbone, windows, [method])

            return forward

        contestants: dict[str, Callable[[], object]] = {"stock": stock}
        for method in METHODS:
            worker = _worker(backbone, method, dataset, protocol, folder, batch)
            contestants[f"{method}, own"] = alone(method)
            contestants[method] = lambda worker=worker: worker(Shard(0, 0, images))  # type: ignore[misc]
        clock = time.perf_counter if backbone.device.type == "cuda" else time.process_time
        times = timed(contestants, rounds, clock=clock)
    return {
        method: Cost(
            ratio(times, method, "stock"),
            ratio(times, method, f"{method}, own"),
            statistics.median(times[method]) / images,
        )
        for method in METHODS
    }


def _windows(backbone: Backbone, dataset: Dataset, protocol: Protocol, batch: int) -> list[Tensor]:
    """The windows of all images as the run cuts them, in full batches on the device."""
    windows: list[Tensor] = []
    for sample in dataset:
        image = Image.fromarray(sample.image)
        size = as_size(str(protocol.size)).of(*image.size)
        shown = to_tensor(resize(image, *size, resampling=protocol.resampling))
        places = protocol.windows.places(size, backbone.native_size)
        windows += places.cut(normalize(shown, backbone.mean, backbone.std))
    return [
        torch.stack(windows[start : start + batch]).to(backbone.device, backbone.dtype)
        for start in range(0, len(windows), batch)
    ]


def _worker(backbone: Backbone, method: str, dataset: Dataset, protocol: Protocol, folder: Path, batch: int) -> Worker:
    job = Job(
        backbone=backbone.spec,
        options=EvaluationOptions(device=str(backbone.device), batch=batch, threads=torch.get_num_threads()),
        methods=(method,),
        dataset=dataset,
        dataset_name=DATASET,
        protocol=protocol,
        words=packed(_random_words(backbone, dataset, protocol)),
        weights=fingerprint(backbone.model),
        run="benchmark",
        images=len(dataset),
        out=str(folder / "out"),
    )
    return Worker(job, backbone=backbone)


def _random_words(backbone: Backbone, dataset: Dataset, protocol: Protocol) -> TextFeatures:
    """As many unit vectors as the protocol has words: encoding them is no cost of an image."""
    vocabulary = vocabulary_for(protocol.words, DATASET, dataset)
    with torch.no_grad():
        width = encode_many(backbone, torch.zeros(1, 3, *backbone.native_size), ["clip"])[0].patches.shape[-1]
    features = torch.randn(len(vocabulary.queries), width, generator=torch.Generator().manual_seed(0))
    return TextFeatures(
        features=F.normalize(features, dim=-1),
        owners=torch.tensor(vocabulary.owners),
        names=vocabulary.names,
        background=vocabulary.background,
    )


def draw_voc(root: Path, images: int) -> None:
    """Parts of photographs in the layout and sizes of VOC 2012; label maps are ellipses with void round them."""
    images_at, masks_at, lists_at = (
        root / name for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    )
    for place in (images_at, masks_at, lists_at):
        place.mkdir(parents=True, exist_ok=True)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    generator = np.random.default_rng(0)
    palette = generator.integers(0, 256, 768).astype(np.uint8).tobytes()
    names = [f"2007_{number:06d}" for number in range(images)]
    for number, name in enumerate(names):
        size = LANDSCAPE[::-1] if number % UPRIGHT_EVERY == UPRIGHT_EVERY - 1 else LANDSCAPE
        photograph = photographs[number % 2]
        left, top = (int(value) for value in generator.integers(0, (photograph.width - 320, photograph.height - 240)))
        photograph.resize(size, box=(left, top, left + 320, top + 240)).save(images_at / f"{name}.jpg", quality=90)
        labels = Image.new("P", size)
        labels.putpalette(palette)
        draw = ImageDraw.Draw(labels)
        for _ in range(3):
            x, y, width, height = (int(value) for value in generator.integers(20, 300, 4))
            draw.ellipse((x, y, x + width, y + height), fill=int(generator.integers(1, 21)), outline=255, width=5)
        labels.save(masks_at / f"{name}.png")
    (lists_at / "val.txt").write_text("\n".join(names))


@dataclass(frozen=True, kw_only=True)
class LargeImages(Dataset):
    """Images of noise of the size of Cityscapes', with all of 847 classes."""

    images: int = 2
    names: tuple[str, ...] = tuple(f"class {number}" for number in range(CLASSES))
    ignore: int | None = None
    background: int | None = None

    def __len__(self) -> int:
        return self.images

    def sample_name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Sample:
        generator = np.random.default_rng(index)
        width, height = LARGE
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        labels = generator.integers(0, CLASSES, (height // 32, width // 32)).repeat(32, 0).repeat(32, 1)
        return Sample(image, labels.astype(np.uint16), str(index))


class Memory(NamedTuple):
    """Megabytes of a process when its model is loaded, and the most from then on."""

    model: float
    peak: float


def peak_memory(images: int = 0, folder: Path | None = None) -> Memory:
    """What a process of its own takes for so many images of `draw_voc`, or for two large ones of 847 classes."""
    command = [sys.executable, "-m", "benchmarks.evaluation", str(images), str(folder or "")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Memory(*json.loads(done.stdout.splitlines()[-1]))


def _measure(images: int, folder: str) -> None:
    """Evaluates two methods and prints this process's peaks."""
    backbone = random_clip()
    gc.collect()
    loaded = _peak(anew=True)
    with tempfile.TemporaryDirectory() as out:
        if images:
            evaluate(
                backbone, METHODS[:2], DATASET, PROTOCOL, root=folder, limit=images, settings={"templates": "plain"},
                out=out, shard=10, engine=Local(workers=1),
            )  # fmt: skip
        else:
            evaluate(
                backbone, METHODS[:2], LargeImages(), settings=LARGE_SETTINGS, out=out, shard=2,
                engine=Local(workers=1),
            )  # fmt: skip
    print(json.dumps([loaded, _peak()]))


def _peak(*, anew: bool = False) -> float:
    """The most megabytes so far; `anew` forgets, on Linux, what making the model took at its height."""
    forget = Path("/proc/self/clear_refs")
    if anew and forget.exists():
        forget.write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    _measure(int(sys.argv[1]), sys.argv[2])
