"""Dense tokens of any tap and layer, for a folder of images, as one safetensors file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from safetensors.torch import save
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images.feed import ListedImage, Loaded, Loader, digest, list_images, stacked
from diagnostics.json_object import json_object
from diagnostics.local_path import local_path
from diagnostics.lock import held
from diagnostics.memory import check_memory
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.blocks import BlockResults, none_readable, reasons_of, work_on_blocks
from diagnostics.studies.store import OtherRun, named_disk_errors
from diagnostics.taps import Recorder, resolve_layer

# Places where tokens come before heads; query, key, value and attention have heads first.
TOKENS_FIRST = ("block_in", "normed", "attn_out", "block_sum", "ffn_hidden", "ffn_out", "block_out")


class Features(NamedTuple):
    """Another way to make dense features than a tap: `name` goes into the file, `make` does it.

    make: normalized images (B, 3, h, w) -> maps (B, rows, cols, E), prefix tokens (B, P, E). `parts` are those that
    may hold pairs of tokens, see diagnostics.memory.
    """

    name: str
    make: Callable[[Tensor], tuple[Tensor, Tensor]]
    parts: tuple[Any, ...] = ()


def dense_tokens(
    backbone: Backbone,
    images: Tensor,
    *,
    layer: int = -1,
    tap: str = "block_out",
    project: bool = False,
    positions: str | None = None,
) -> tuple[Tensor, Tensor]:
    """What flows through one tap of one layer, folded into maps: normalized (B, 3, h, w) -> maps, prefix tokens.

    Token taps give maps (B, rows, cols, D) and prefix (B, P, D); query, key and value give (B, rows, cols, H, d) and
    (B, P, H, d); attention gives (B, rows, cols, H, T), each patch's row, and (B, P, H, T). `project` brings tokens of
    `block_out` into the space of the text (or of the head's rows): final norm and projection, before L2 normalization.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : Tensor (B, 3, h, w)
        Normalized images, from `ao.load_image`.
    layer : int
        Layer 1…L or negative; 0 is the embedding.
    tap : str
        A place in the block, a name of `ao.TAPS`.
    project : bool
        Bring tokens of `block_out` into the space of the text: final norm and projection.
    positions : str or None
        Interpolation of positional embeddings, a name of `ao.POSITIONS`; None takes the backbone's own.

    Returns
    -------
    (Tensor, Tensor)
        Maps (B, rows, cols, D) and prefix tokens (B, P, D); other shapes for other taps, above.

    Raises
    ------
    ValueError
        For a layer or tap that does not exist.

    Examples
    --------
    >>> import torch
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny")
    >>> maps, prefix = ao.dense_tokens(backbone, torch.zeros(1, 3, 64, 64), layer=8, tap="attention")
    >>> maps.shape  # image, row, col, head, token attended to
    torch.Size([1, 4, 4, 2, 17])
    """
    recorder, last = _recorder(backbone, layer, tap, project)
    with torch.no_grad():
        backbone.trunk(images, stop=last, tap=recorder, positions=positions)
        value = recorder[tap, last]
        tokens = backbone.project(value) if project else value
    if tap not in TOKENS_FIRST:
        tokens = tokens.transpose(1, 2)
    layout = backbone.layout(images)
    return layout.to_map(layout.patches(tokens)), layout.prefix_tokens(tokens)


def _recorder(backbone: Backbone, layer: int, tap: str, project: bool) -> tuple[Recorder, int]:
    """What reads the tap, and the layer as 0…L; a place that does not exist raises ValueError."""
    if project and tap != "block_out":
        raise ValueError(f"`project` should go with tap `block_out`; got `{tap}`. Leave --project or --tap out.")
    recorder = Recorder(tap, layers=[layer])
    last = resolve_layer(layer, backbone.depth)
    if last == 0 and tap != "block_out":
        raise ValueError(f"layer 0 is the embedding and has only the tap `block_out`; got `{tap}`.")
    return recorder, last


def encode(
    backbone: Backbone,
    images: Any,
    *,
    out: str | Path,
    layer: int = -1,
    tap: str = "block_out",
    project: bool = False,
    prefix: bool = False,
    features: Features | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> dict[str, str]:
    """Writes dense tokens of every image into one safetensors file; returns the images left out, with reasons.

    The file holds one tensor an image under the image's name (shapes as `dense_tokens`, without B), with `prefix`
    also NAME/prefix, in the backbone's precision. Its metadata have backbone, layer, tap, size, and what was left out.
    With `features`, these are written in place of a tap's tokens, and `layer`, `tap` and `project` have no part in it.
    Parts are kept in OUT.parts until the run is complete: memory does not grow with the number of images, and an
    interrupted run resumes. An existing file is refused, and so are parts of a run with other settings, or of another
    process that writes them now.

    Options of the run: `size`, `batch`, `positions`, `strict`, `progress`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    out : path
        The file to write.
    layer : int
        Layer 1…L or negative; 0 is the embedding.
    tap : str
        A place in the block, a name of `ao.TAPS`.
    project : bool
        Bring tokens of `block_out` into the space of the text: final norm and projection.
    prefix : bool
        Also write prefix tokens.
    features : Features or None
        Other features in place of a tap's tokens.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as
        far as they apply.

    Returns
    -------
    dict of str to str
        The reason by name of each image left out.

    Raises
    ------
    ValueError
        For a file that exists, and if no image can be read.
    OSError
        If the disk is full; what is written stays.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> import tempfile
    >>> from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     left_out = ao.encode(backbone, scenes, out=f"{folder}/tokens.safetensors", layer=8)
    ...     len(load_file(f"{folder}/tokens.safetensors"))
    2
    """
    options = run_options("encode", options, keywords, uses=("size", "batch", "positions", "strict", "progress"))
    out = local_path(out)
    with held(out):
        _check_free(out)
        _, layer = _recorder(backbone, layer, tap, project)
        listed = list_images(images, options.size_for(backbone.native_size), strict=options.strict)
        check_memory(backbone, listed, features.parts if features else (), device=str(backbone.device))
        settings = _settings(backbone, options, listed) | {
            "layer": str(layer),
            "tap": tap,
            "project": str(project).lower(),
            "prefix": str(prefix).lower(),
            "features": features.name if features else "tap",
        }
        parts = _parts_folder(out, settings)
        blocks = options.blocks(len(listed))
        loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=options.strict)

        def work(batch: list[Loaded]) -> tuple[Tensor, Tensor]:
            pixels = stacked(batch)
            if features:
                maps, special = features.make(pixels)
            else:
                maps, special = dense_tokens(
                    backbone, pixels, layer=layer, tap=tap, project=project, positions=options.positions
                )
            return maps.cpu(), special.cpu()

        waiting = [block for block in blocks if not _is_whole(_part(parts, block))]
        title, advice = f"encode {backbone.spec}", "choose a smaller --size"
        with named_disk_errors(str(out)):
            for block in work_on_blocks(loader, work, options, title=title, blocks=waiting, advice=advice):
                left_out = json.dumps(reasons_of(block.images, listed))
                _save_whole(_named_tensors(block, listed, prefix), _part(parts, block.numbers), {"skipped": left_out})
            reasons = _join([_part(parts, block) for block in blocks], out, settings)
        shutil.rmtree(parts)
        return reasons


def _check_free(out: Path) -> None:
    """Refuses a path where a file or directory is."""
    if out.is_dir():
        raise ValueError(f"`{out}` is a directory; give --out the name of a file, such as features.safetensors.")
    if out.exists():
        raise ValueError(f"`{out}` exists; delete it or choose another --out.")


def _settings(backbone: Backbone, options: RunOptions, listed: Sequence[ListedImage]) -> dict[str, str]:
    """What decides the numbers of a run, beside what is asked of each image."""
    return {
        "backbone": backbone.spec,
        "weights": fingerprint(backbone.model),
        **backbone.origin,
        "precision": str(backbone.dtype).removeprefix("torch."),
        "positions": options.positions or backbone.positions,
        "size": str(options.size_for(backbone.native_size)),
        "batch": str(options.batch),
        "images": digest(listed),
    }


def _named_tensors(
    block: BlockResults[tuple[Tensor, Tensor]], listed: Sequence[ListedImage], prefix: bool
) -> dict[str, Tensor]:
    """The tensors of a block by the names that they have in the file."""
    tensors: dict[str, Tensor] = {}
    for batch, (maps, special) in block.batches:
        for place, image in enumerate(batch):
            name = listed[image.number].name
            tensors[name] = maps[place].contiguous()
            if prefix:
                tensors[f"{name}/prefix"] = special[place].contiguous()
    return tensors


def _parts_folder(out: Path, settings: Mapping[str, str]) -> Path:
    """The folder of finished parts beside `out`; one of other settings is refused."""
    parts = out.with_name(out.name + ".parts")
    note = parts / "settings.json"
    # The folder is deleted in the end: it must be ours, or empty.
    if parts.exists() and not note.exists() and any(path != note.with_suffix(".new") for path in parts.iterdir()):
        raise OtherRun(f"`{parts}` exists and holds no parts of a run; choose another --out, or move it away.")
    parts.mkdir(parents=True, exist_ok=True)
    # Without a finished part there is nothing to mix up: a run that failed at its start leaves no trace.
    if note.exists() and any(parts.glob("*.safetensors")):
        known = json_object(note.read_bytes(), note, f"Choose another --out, or delete `{parts}`.")
        other = [key for key in settings if known.get(key) != settings[key]]
        if other:
            changes = "; ".join(f"{key}: {known.get(key)} there, {settings[key]} now" for key in other)
            raise OtherRun(
                f"`{parts}` holds parts of a run with other settings ({changes}). Choose another --out, or delete it."
            )
        return parts
    growing = note.with_suffix(".new")
    growing.write_text(json.dumps(settings), encoding="utf-8")
    growing.replace(note)
    return parts


def _part(parts: Path, block: range) -> Path:
    return parts / f"{block.start:08d}.safetensors"


def _is_whole(path: Path) -> bool:
    """Whether a part is there, with all the bytes that its header speaks of."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return False
            header = json_object(file.read(length), path, "")
        json.loads(header.pop("__metadata__")["skipped"])
        ends = [entry["data_offsets"][1] for entry in header.values()]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def _save_whole(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Written beside and renamed, so that a part is either whole or not there."""
    growing = path.with_suffix(".new")
    # Written here and not by the library, whose errors don't say that a disk is full.
    growing.write_bytes(save(dict(tensors), metadata=dict(metadata)))
    growing.replace(path)


def _join(parts: Sequence[Path], out: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """One safetensors file of all parts, copied through a small buffer; returns what was left out.

    The format is a length, a JSON header of names, types, shapes and places, and the bytes; parts are joined by
    moving the places. The library only writes tensors that are all in memory.
    """
    header: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    starts, offset = [], 0
    for path in parts:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
        left_out |= json.loads(entries.pop("__metadata__")["skipped"])
        for name, entry in entries.items():
            entry["data_offsets"] = [offset + place for place in entry["data_offsets"]]
            header[name] = entry
        starts.append(8 + length)
        offset += path.stat().st_size - 8 - length
    if not header:
        raise none_readable(len(left_out), left_out)
    text = json.dumps({"__metadata__": {**settings, "skipped": json.dumps(left_out)}, **header}).encode()
    text += b" " * (-len(text) % 8)
    growing = out.with_name(out.name + ".new")
    with growing.open("wb") as whole:
        whole.write(len(text).to_bytes(8, "little") + text)
        for path, start in zip(parts, starts, strict=True):
            with path.open("rb") as file:
                file.seek(start)
                shutil.copyfileobj(file, whole)
    growing.replace(out)
    return left_out
