"""Dense tokens of any tap and layer, for a folder of images, as one safetensors file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images import Size
from diagnostics.images.feed import (
    Loaded,
    Loader,
    digest,
    in_batches,
    list_images,
    opened_ahead,
    progress_bar,
    size_for,
    stacked,
)
from diagnostics.studies.store import OtherRun, named_disk_errors
from diagnostics.taps import Recorder, resolve_layer

# Places where tokens come before heads; query, key, value and attention have heads first.
TOKENS_FIRST = ("block_in", "normed", "attn_out", "block_sum", "ffn_hidden", "ffn_out", "block_out")


class Features(NamedTuple):
    """Another way to make dense features than a tap: `name` goes into the file, `make` does it.

    make: normalized images (B, 3, h, w) -> maps (B, rows, cols, E), prefix tokens (B, P, E).
    """

    name: str
    make: Callable[[Tensor], tuple[Tensor, Tensor]]


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
    size: str | Size | None = None,
    batch: int = 8,
    strict: bool = False,
    positions: str | None = None,
    features: Features | None = None,
    progress: bool = False,
) -> dict[str, str]:
    """Writes dense tokens of every image into one safetensors file; returns the images left out, with reasons.

    The file holds one tensor an image under the image's name (shapes as `dense_tokens`, without B), with `prefix`
    also NAME/prefix, in the backbone's precision. Its metadata tell backbone, layer, tap, size, and what was left out.
    With `features`, these are written in place of a tap's tokens, and `layer`, `tap` and `project` have no part in it.
    Parts are kept in OUT.parts while the run goes on: memory does not grow with the number of images, and a stopped
    run goes on where it was. An existing file is refused, and so are parts of a run with other settings.
    """
    out = Path(out)
    if out.is_dir():
        raise ValueError(f"`{out}` is a folder; give --out the name of a file, such as features.safetensors.")
    if out.exists():
        raise ValueError(f"`{out}` exists; delete it or choose another --out.")
    if batch < 1:
        raise ValueError(f"`batch` should be at least 1; got {batch}.")
    _, layer = _recorder(backbone, layer, tap, project)
    shown = size_for(backbone, size)
    listed = list_images(images, shown, strict=strict)
    settings = {
        "backbone": backbone.spec,
        "weights": fingerprint(backbone.model),
        "precision": str(backbone.dtype).removeprefix("torch."),
        "positions": positions or backbone.positions,
        "size": str(shown),
        "layer": str(layer),
        "tap": tap,
        "project": str(project).lower(),
        "prefix": str(prefix).lower(),
        "features": features.name if features else "tap",
        "batch": str(batch),
        "images": digest(listed),
    }
    parts = _parts_folder(out, settings)
    blocks = [range(start, min(start + batch, len(listed))) for start in range(0, len(listed), batch)]
    waiting = [block for block in blocks if not _part(parts, block).exists()]
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=strict)

    def work(some: list[Loaded]) -> tuple[Tensor, Tensor]:
        pixels = stacked(some)
        if features:
            maps, special = features.make(pixels)
        else:
            maps, special = dense_tokens(backbone, pixels, layer=layer, tap=tap, project=project, positions=positions)
        return maps.cpu(), special.cpu()

    done = len(listed) - sum(map(len, waiting))
    bar = progress_bar(f"encode {backbone.spec}", len(listed), done=done, shown=progress)
    with bar, named_disk_errors(str(out)):
        for block, loaded in opened_ahead(waiting, loader):
            tensors: dict[str, Tensor] = {}
            for some, (maps, special) in in_batches(loaded, batch, work, advice="choose a smaller --size"):
                for place, item in enumerate(some):
                    tensors[listed[item.number].name] = maps[place].contiguous()
                    if prefix:
                        tensors[f"{listed[item.number].name}/prefix"] = special[place].contiguous()
            skipped = {listed[item.number].name: item.reason for item in loaded if item.reason}
            _save_whole(tensors, _part(parts, block), {"skipped": json.dumps(skipped)})
            bar.update(len(block))
        left_out = _join([_part(parts, block) for block in blocks], out, settings)
    shutil.rmtree(parts)
    return left_out


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
        known = json.loads(note.read_text(encoding="utf-8"))
        other = [key for key in settings if known.get(key) != settings[key]]
        if other:
            said = "; ".join(f"{key}: {known.get(key)} there, {settings[key]} now" for key in other)
            raise OtherRun(
                f"`{parts}` holds parts of a run with other settings ({said}). Choose another --out, or delete it."
            )
        return parts
    growing = note.with_suffix(".new")
    growing.write_text(json.dumps(settings), encoding="utf-8")
    growing.replace(note)
    return parts


def _part(parts: Path, block: range) -> Path:
    return parts / f"{block.start:08d}.safetensors"


def _save_whole(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Written beside and renamed, so that a part is either whole or not there."""
    growing = path.with_suffix(".new")
    save_file(dict(tensors), growing, metadata=dict(metadata))
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
            own = json.loads(file.read(length))
        left_out |= json.loads(own.pop("__metadata__")["skipped"])
        for name, entry in own.items():
            entry["data_offsets"] = [offset + place for place in entry["data_offsets"]]
            header[name] = entry
        starts.append(8 + length)
        offset += path.stat().st_size - 8 - length
    if not header:
        raise ValueError(f"none of the {len(left_out)} images can be read. The first: {next(iter(left_out.values()))}")
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
