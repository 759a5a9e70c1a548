"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.output import Output

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from diagnostics import Backbone
    from diagnostics.options import RunOptions

Images = Annotated[
    list[str],
    typer.Argument(help="Images: files, folders (searched with all folders below), or globs such as 'photos/*.jpg'."),
]
LayersText = Annotated[
    str | None, typer.Option("--layers", help="Which layers, such as 1,6,8-11 or -2,-1. All by default.")
]
SizeText = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="Size that the network gets: 224 (a square; the image is stretched), WxH, short:336 (keeps the shape), "
        "native. The model's size by default.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", help="Folder of label maps that have the names of the images."),
]
Palette = Annotated[
    str | None,
    typer.Option(
        "--palette",
        help="Of label maps that show classes as colors: a file with a color a line (#800000 or 128 0 0), the first "
        "for label 0; or gray for three equal channels.",
    ),
]
IgnoreLabels = Annotated[str, typer.Option("--ignore", help="Labels that stand for no class, such as 255 or 0,255.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes. By default one for each GPU, or one for each CPU core."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of each worker on a CPU.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Images in one forward pass.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1; auto takes a GPU if there is one.")]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option("--precision", help="Of the model. Measurements are made in fp32 either way.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image or label map that can't be read.")]
BackboneSpec = Annotated[
    str,
    typer.Option(
        "--backbone",
        "-b",
        autocompletion=complete.backbones,
        help="The model: pocket (inside the package), open_clip:ViT-B-16/openai, open_clip:ARCHITECTURE@FILE, "
        "timm:vit_base_patch16_224.dino, timm:NAME@FILE, openai:FILE, hf-hub:ORG/NAME. See `outliers list backbones`.",
    ),
]
Positions = Annotated[
    str | None,
    typer.Option(
        "--positions",
        autocompletion=complete.positions,
        help="How positional embeddings are interpolated to other sizes; see `outliers list positions`.",
    ),
]


EditSpecs = Annotated[
    list[str] | None,
    typer.Option(
        "--edit",
        autocompletion=complete.edits,
        help="A change in every forward pass, such as purify-at:detector=profile(FILE), register:profile=FILE, "
        "mute-channels:channels=41,layers=8, attention-mask:detector=relative-norm, scale-residual:alpha=2; may come "
        "again. See `outliers list edits`.",
    ),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option("--profile", help="profile.json of `outliers profile`: its line says which patches are outliers."),
]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The backbone, and where it runs."""

    panel: ClassVar[str] = "Model"

    backbone: BackboneSpec = "pocket"
    edit: EditSpecs = None
    device: Device = "auto"
    precision: Precision = "fp32"
    positions: Positions = None

    @property
    def spec(self) -> str:
        """The backbone with its edits, as `load_backbone` takes them."""
        return with_edits(self.backbone, self.edit)

    def options(self) -> RunOptions:
        """What is settled when a backbone is loaded: device, precision and positions."""
        from diagnostics.options import RunOptions

        return RunOptions(device=self.device, precision=self.precision, positions=self.positions)

    def load(self, show: Output) -> Backbone:
        """The backbone; what has to be known about it is printed."""
        model = load(self.spec, self.options())
        show.note(model)
        return model


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How images go through the backbone."""

    panel: ClassVar[str] = "Images and batches"

    size: SizeText = None
    batch: Batch = 8
    strict: Strict = False

    def options(self, show: Output, layers: Sequence[int] | None = None) -> RunOptions:
        """The options of a run over images."""
        from diagnostics.options import RunOptions

        return RunOptions(size=self.size, batch=self.batch, layers=layers, strict=self.strict, progress=show.progress)


def with_edits(backbone: str, edits: Sequence[str] | None) -> str:
    """A backbone's spec with those of edits behind it."""
    return " + ".join([backbone, *(edits or ())])


def profile_spec(file: Path) -> str:
    """`profile(FILE)`, the detector of a profile; ValueError for a name that a spec can't hold."""
    if set(str(file)) & set(",()= ;+"):
        raise ValueError(f"`--profile` should have no blanks, commas, brackets, `=`, `;` or `+` in it; got `{file}`.")
    if not file.is_file():
        raise ValueError(f"`--profile` should be a file of `outliers profile`; `{file}` is not a file.")
    return f"profile({file})"


def with_detector(spec: str, detector: str) -> str:
    """A method's spec with this detector, unless it names its own."""
    from diagnostics.registry import parse_spec

    name, fields = parse_spec(spec)
    if "detector" in fields:
        return spec
    rest = ",".join(f"{key}={value}" for key, value in {**fields, "detector": detector}.items())
    return f"{name}:{rest}"


def profiled(methods: str, file: Path | None) -> str:
    """Methods, as a list in one text, with the detector of a profile, unless they name their own."""
    if file is None:
        return methods
    detector = profile_spec(file)
    return ";".join(with_detector(spec, detector) for spec in specs_of(methods))


def load(spec: str, options: RunOptions) -> Backbone:
    """The backbone of a spec; the device `auto` takes a GPU if there is one."""
    from diagnostics import load_backbone

    device = device_of(options.device)
    return load_backbone(spec, device=device, precision=options.precision, positions=options.positions)


def device_of(device: str) -> str:
    """The device itself; for `auto` a GPU if there is one."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def check_inputs(images: Sequence[str] = (), *, labels: Path | None = None, **files: Path | None) -> None:
    """ValueError for an image, a folder of label maps or a file that is missing, before a model is loaded.

    `files` are named as their options: `classes_file` is that of --classes-file.
    """
    if labels is not None and not labels.is_dir():
        raise ValueError(f"`--labels` should be a directory of label maps; `{labels}` is not a directory.")
    for name, file in files.items():
        if file is not None and not file.is_file():
            raise ValueError(f"`--{name.replace('_', '-')}` should be a file; `{file}` is not a file.")
    if images:
        from diagnostics.images.find import find_images

        find_images(images)


def check_parts(**specs: Sequence[str]) -> None:
    """ValueError for a spec that names no part, or a setting that it does not have, before a model is loaded.

    The names are those of the kinds: detectors, purifiers, measures.
    """
    from importlib import import_module

    for kind, several in specs.items():
        registry = getattr(import_module(f"diagnostics.{kind}"), kind.upper())
        for spec in several:
            registry.build(spec)


def check_outside(images: Sequence[str], **folders: Path | None) -> None:
    """ValueError for a folder of results below a folder of images, where figures would be images of the next run.

    `folders` are named as their options: `plots` is that of --plots.
    """
    for name, folder in folders.items():
        for source in images:
            if folder is not None and os.path.isdir(os.path.expanduser(source)):
                real = os.path.realpath(os.path.expanduser(source))
                if os.path.commonpath([real, os.path.realpath(folder)]) == real:
                    raise ValueError(
                        f"`--{name}` {folder} lies in the folder of images `{source}`: its figures would be images of "
                        "the next run. Name a folder beside it."
                    )


def first_images(dataset: xr.Dataset, images: Sequence[str], count: int) -> dict[str, np.ndarray]:
    """The first images of a data set by name, as pixels (h, w, 3), to be drawn beside their maps."""
    import numpy as np

    from diagnostics import image_paths
    from diagnostics.images import open_image

    paths = image_paths(images)
    return {str(name): np.asarray(open_image(paths[str(name)])) for name in dataset["image"].values[:count]}


def short_spec(spec: str) -> str:
    """The spec of a backbone with the base name of its file alone: `timm:vit@/data/a.pt` -> `timm:vit@a.pt`."""
    from figures.text import without_folders

    return without_folders(spec)


MOST_LAYERS = 10_000  # of a range; no model has so many


def layers_of(text: str | None) -> list[int] | None:
    """`1,6,8-11,-1` -> [1, 6, 8, 9, 10, 11, -1]; None for all."""
    if text is None:
        return None
    layers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().rpartition("-")
        try:
            if dash and first.strip():
                if not 0 <= int(last) - int(first) <= MOST_LAYERS:
                    raise ValueError
                layers += range(int(first), int(last) + 1)
            else:
                layers.append(int(piece))
        except ValueError:
            raise ValueError(f"`--layers` should read 1,6,8-11 or -2,-1; got `{text}`.") from None
    return layers


def numbers(text: str, option: str) -> list[int]:
    """`0,255` -> [0, 255]."""
    try:
        return [int(piece) for piece in text.split(",") if piece.strip()]
    except ValueError:
        raise ValueError(f"`{option}` should be label numbers such as 0,255; got `{text}`.") from None


def specs_of(text: str) -> list[str]:
    """The spec strings of a list: `norm:threshold=100,lof` -> ["norm:threshold=100", "lof"]."""
    from diagnostics.registry import split_specs

    return split_specs(text)


def keywords(group: Any, *names: str) -> dict[str, Any]:
    """Fields of a group as keywords of a call."""
    return {name: getattr(group, name) for name in names}
