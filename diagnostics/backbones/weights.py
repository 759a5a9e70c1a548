"""Weight files of every common kind, read without running anything that a file might hold."""

from __future__ import annotations

import argparse
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from diagnostics.backbones.checkpoint import Checkpoint, joined_notes, plain_names, taken_out
from diagnostics.backbones.torchscript import NeedsCode, read_torchscript

# What training scripts keep beside the weights and torch can make without running anything: settings and numbers.
HARMLESS: tuple[Any, ...] = (
    argparse.Namespace,
    np._core.multiarray.scalar,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Name -> tensor of a weight file, as `read_checkpoint` reads it."""
    return read_checkpoint(path).weights


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Name -> tensor of a weight file, on the CPU, in the stored precision, and a note of what was chosen.

    Reads `.safetensors`, `.npz`, and `.pt`, `.pth`, `.bin` as a checkpoint or as a TorchScript archive, of which only
    the weights are taken, as data: no code in it is run. A checkpoint's inner entry of weights is unwrapped, an
    averaged one (EMA) before a raw one: `FILE#ema`, `FILE#model` or `FILE#ENTRY` names it. What is no tensor is left
    out, and what training puts before names (`module.`, `_orig_mod.`, `model.`) is dropped. Raises ValueError for a
    file that is missing, no weight file, cut short, damaged (checksums are looked at where a file has them), or empty,
    for one with adapters that are not merged, and for one that holds pickled objects: these could run any code, so they
    are never loaded.
    """
    path = Path(path).expanduser()
    entry = None
    if not path.is_file() and "#" in path.name:
        name, _, entry = path.name.rpartition("#")
        path = path.with_name(name)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"weight file `{path}` {what}; give the path of a {', '.join(READERS)} file.")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"weight file `{path}` should end in {', '.join(READERS)}; got `{path.suffix}`.")
    if path.stat().st_size == 0:
        raise ValueError(f"weight file `{path}` is empty (0 bytes); fetch or export it again.")
    return _tensors(READERS[path.suffix.lower()](path), path, entry)


def read_shapes(path: Path, names: Iterable[str]) -> list[tuple[int, ...] | None]:
    """Shapes of a file's weights by name, None for those that it lacks; of safetensors only the header is read."""
    if path.suffix != ".safetensors":
        weights = read_weights(path)
        return [tuple(weights[name].shape) if name in weights else None for name in names]
    try:
        with safe_open(path, "pt") as file:
            present = set(file.keys())
            return [tuple(file.get_slice(name).get_shape()) if name in present else None for name in names]
    except Exception as error:  # SafetensorError
        raise _broken(path, error) from error


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError; and kinds of numbers that this torch lacks
        raise _broken(path, error) from error


def _read_npz(path: Path) -> Mapping[str, Any]:
    if not zipfile.is_zipfile(path):
        raise _broken(path, "no zip archive")
    weights = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                array = archive[name]
                if not isinstance(array, np.ndarray):
                    raise ValueError(f"`{name}` is no array")
                if array.dtype.kind in "fiub":
                    weights[name] = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except Exception as error:  # a damaged archive fails in as many ways as zip files have kinds of content
        raise _pickled(path) if "allow_pickle" in str(error) else _broken(path, error) from error
    return weights


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it then refuses
            if _is_torchscript(path):
                return read_torchscript(path)
            _check_sums(path)
            with torch.serialization.safe_globals(list(HARMLESS)):
                return torch.load(path, map_location="cpu", weights_only=True)
    except NeedsCode as error:
        raise ValueError(
            f"weight file `{path}` is a TorchScript archive in which {error}; code in weight files is never run. "
            "Export the state dict alone, best as .safetensors."
        ) from error
    except pickle.UnpicklingError as error:
        # torch names the refused class or operation; any other reason is a file that never was a checkpoint.
        refused = any(word in str(error) for word in ("GLOBAL", "Unsupported operand"))
        raise _pickled(path) if refused else _broken(path, error) from error
    except Exception as error:  # damaged archives fail in as many ways as their formats have parts
        raise _broken(path, error) from error


def _check_sums(path: Path) -> None:
    """Refuses a zip archive in which a member is not what its checksum says; torch itself does not look."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} does not fit")


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold constants beside the weights; plain checkpoints do not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


READERS = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".bin": _read_torch,
}


def _broken(path: Path, reason: object) -> ValueError:
    first = str(reason).partition("\n")[0][:200]
    return ValueError(
        f"weight file `{path}` is damaged, cut short or no {path.suffix} file ({first or type(reason).__name__}); "
        "fetch or export it again."
    )


def _pickled(path: Path) -> ValueError:
    return ValueError(
        f"weight file `{path}` holds pickled objects besides tensors, which could run any code, so it is not loaded; "
        "export the state dict alone, best as .safetensors: safetensors.torch.save_file(model.state_dict(), path)."
    )


def _tensors(content: Any, path: Path, entry: str | None) -> Checkpoint:
    note = ""
    if isinstance(content, Mapping):
        content, note = taken_out(content, entry, str(path))
    if not isinstance(content, Mapping):
        raise ValueError(
            f"weight file `{path}` should hold a state dict, name -> tensor; got {type(content).__name__}. "
            "Export model.state_dict()."
        )
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(
            f"weight file `{path}` holds no tensors (entries: {first_names(map(str, content))}); "
            "export model.state_dict()."
        )
    checkpoint = plain_names(weights, str(path))
    return Checkpoint(checkpoint.weights, joined_notes(note, checkpoint.note))


def fill(model: nn.Module, weights: Mapping[str, Tensor], *, spec: str, instead: str) -> None:
    """Puts the weights into the model, every one in its place, cast to the model's precision.

    Raises ValueError as `check_fit` does.
    """
    check_fit(model, weights, spec=spec, instead=instead)
    model.load_state_dict(dict(weights))


def check_fit(model: nn.Module, weights: Mapping[str, Tensor], *, spec: str, instead: str) -> None:
    """Raises ValueError unless every weight has its place in the model and the other way round.

    It names the first missing, unknown and misshapen weights of `spec`, and those that are whole numbers or truth
    values where fractions belong, as quantized weights are; it ends with `instead`, the next step.
    """
    slots = model.state_dict()
    common = {name: (weights[name], slot) for name, slot in slots.items() if name in weights}
    wrong = {
        "missing": [name for name in slots if name not in weights],
        "unexpected": [name for name in weights if name not in slots],
        "of another shape": [
            f"{name} {tuple(weight.shape)} where {tuple(slot.shape)} is expected"
            for name, (weight, slot) in common.items()
            if weight.shape != slot.shape
        ],
        "of another kind": [
            f"{name} {weight.dtype} where {slot.dtype} is expected"
            for name, (weight, slot) in common.items()
            if slot.is_floating_point() and not weight.is_floating_point()
        ],
    }
    if any(wrong.values()):
        mismatch = "; ".join(f"{len(names)} {kind}: {first_names(names)}" for kind, names in wrong.items() if names)
        raise ValueError(f"the weights do not fit `{spec}`. {mismatch}. {instead}")


def first_names(names: Iterable[str], count: int = 4) -> str:
    """The first few names, with dots where there are more; «none» for none."""
    names = list(names)
    return ", ".join(names[:count]) + (", …" if len(names) > count else "") or "none"
