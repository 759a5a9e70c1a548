"""Weight files: pickles, code in TorchScript, damaged archives, kinds of numbers that are no weights."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from bad_input.harness import Case, Result, refused, works
from bad_input.products import photo

MODEL = "vit_tiny_patch16_224"


class Spell:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch ran",))


class Writer(nn.Module):
    """Overwrites a file when TorchScript restores its state."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.weight = state[0]
        self.training = state[1]
        torch.save(torch.ones(3), "ran")


class Forever(Writer):
    """Never ends restoring its state."""

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.weight = state[0]
        self.training = state[1]
        while int(self.weight.numel()) > 0:
            self.training = not self.training


def reads(file: str) -> Callable[[], Any]:
    """Reads the weights; an error where the file ran something."""

    def action() -> Any:
        from diagnostics.backbones.weights import read_weights

        try:
            weights = read_weights(file)
        finally:
            if Path("ran").exists():
                raise RuntimeError("the file ran code")
        return weights

    return action


def saved(content: Any, file: str, **settings: Any) -> Callable[[], Callable[[], Any]]:
    """A file of torch.save."""

    def prepare() -> Callable[[], Any]:
        torch.save(content, file, **settings)
        return reads(file)

    return prepare


def written(file: str, content: Callable[[], bytes]) -> Callable[[], Callable[[], Any]]:
    """A file of these bytes."""

    def prepare() -> Callable[[], Any]:
        Path(file).write_bytes(content())
        return reads(file)

    return prepare


def torch_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def state() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(1000.0), "b.bias": torch.ones(3)}


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def patched(content: bytes, *changes: tuple[int, bytes]) -> bytes:
    """The bytes with others at some places; negative places count from the end."""
    changed = bytearray(content)
    for place, new in changes:
        start = place % len(changed)
        changed[start : start + len(new)] = new
    return bytes(changed)


def flipped_tensor() -> bytes:
    """A checkpoint with one bit of a tensor flipped, which its checksum shows."""
    content = torch_bytes(state())
    place = content.find(torch.arange(1000.0).numpy().tobytes())
    return patched(content, (place + 2000, bytes([content[place + 2000] ^ 1])))


def safetensors_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def scripted(module: type[nn.Module], file: str) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        torch.jit.script(module()).save(file)
        return reads(file)

    return prepare


def bad_bytes() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """File names and their bytes."""
    good = torch_bytes(state())
    tensors = safetensors_bytes(state())
    arrays = npz(a=np.arange(1000.0))
    for suffix, whole in (("pt", good), ("pth", good), ("bin", good), ("safetensors", tensors), ("npz", arrays)):
        for share in (0.1, 0.5, 0.97):
            yield f"cut{int(share * 100)}.{suffix}", lambda whole=whole, k=share: whole[: int(len(whole) * k)]  # type: ignore[misc]
        yield f"empty.{suffix}", lambda: b""
        yield f"page.{suffix}", lambda: b"<html>404 not found</html>"
        yield f"zeros.{suffix}", lambda: bytes(5000)
        yield f"pointer.{suffix}", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield "flipped.pt", flipped_tensor
    yield "flipped.npz", lambda: patched(arrays, (len(arrays) // 2, b"\x55"))
    yield "list.pt", lambda: torch_bytes([1, 2])
    yield "number.pt", lambda: torch_bytes(3.5)
    yield "texts.pt", lambda: torch_bytes({"a": "b"})
    yield "none.pt", lambda: torch_bytes({})
    yield "nothing.npz", lambda: npz()
    yield "texts.npz", lambda: npz(a=np.array(["x"]))
    yield "complex.npz", lambda: npz(a=np.ones(3, complex))
    yield "member.npz", lambda: zipped({"a.npy": b"no array"})
    yield "other.npz", lambda: zipped({"a.txt": b"no array"})
    yield "objects.npz", lambda: npz(a=np.array([Spell()], object))
    yield "bzip.npz", lambda: zipped({"a.npy": b"\x93NUMPY" + bytes(40)}, zipfile.ZIP_BZIP2)
    yield "zip.pt", lambda: zipped({"a/readme": b"x"})
    yield "slip.pt", lambda: zipped({"../../slip/data.pkl": pickle.dumps({}), "../../slip/version": b"3"})
    yield "nested.safetensors", lambda: safetensors_header(b"[" * 100_000)
    yield "json.safetensors", lambda: safetensors_header(b"{")
    yield "list.safetensors", lambda: safetensors_header([1])
    yield "length.safetensors", lambda: struct.pack("<Q", 2**63) + b"{}"
    yield (
        "range.safetensors",
        lambda: safetensors_header({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 99]}}),
    )
    yield (
        "overlap.safetensors",
        lambda: safetensors_header(
            {key: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for key in "ab"}, bytes(4)
        ),
    )
    yield (
        "dtype.safetensors",
        lambda: safetensors_header({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    )
    yield (
        "shape.safetensors",
        lambda: safetensors_header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    )


def model_file(name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], *names: str) -> Case:
    """Weights of a model with a change, loaded by the command line."""

    def prepare() -> list[str]:
        import timm
        from safetensors.torch import save_file

        torch.manual_seed(0)
        weights = timm.create_model(MODEL, num_classes=0).state_dict()
        save_file(change(dict(weights)), "model.safetensors")
        photo("a.png")
        return ["probe", "a.png", "-b", f"timm:{MODEL}@model.safetensors", "--measures", "norms", "--out", "r.zarr"]

    return refused(f"weights of a model: {name}", prepare, *names)


def cases() -> Iterator[Case]:
    for file, content in bad_bytes():
        yield refused(f"weights: {file}", written(file, content), file)
    for file in ("spell.pt", "spell.pth", "spell.bin"):
        yield refused(f"weights: {file} runs a program", saved({"a": Spell()}, file), file, "pickled")
    yield refused(
        "weights: spell in the old form",
        saved({"a": Spell()}, "old.pt", _use_new_zipfile_serialization=False),
        "old.pt",
    )
    yield refused("weights: a plain pickle", written("plain.pt", lambda: pickle.dumps({"a": Spell()})), "plain.pt")
    for module in (Writer, Forever):
        name = module.__name__.lower()
        yield refused(f"weights: TorchScript with __setstate__, {name}", scripted(module, f"{name}.pt"), f"{name}.pt")
    for name in ("missing.pt", "weights.txt", "weights"):

        def prepare(name: str = name) -> Callable[[], Any]:
            if name != "missing.pt":
                Path(name).write_bytes(b"x")
            return reads(name)

        yield refused(f"weights: {name}", prepare, name)
    yield refused("weights: a folder", lambda: [os.mkdir("folder.pt"), reads("folder.pt")][1], "folder.pt")  # type: ignore[arg-type,return-value]
    yield refused("weights: a FIFO", lambda: [os.mkfifo("fifo.pt"), reads("fifo.pt")][1], "fifo.pt")  # type: ignore[arg-type,return-value]
    yield refused("weights: /dev/zero", lambda: [os.symlink("/dev/zero", "zero.pt"), reads("zero.pt")][1], "zero.pt")  # type: ignore[arg-type,return-value]

    def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        return lambda weights: {**weights, name: change(weights[name]).contiguous()}

    bias, embed = "blocks.3.mlp.fc1.bias", "patch_embed.proj.weight"
    yield model_file("int8", changed(bias, lambda w: w.to(torch.int8)), bias, "int8")
    yield model_file("bool", changed(bias, lambda w: w > 0), bias, "bool")
    yield model_file("another shape", changed(bias, lambda w: w[:5]), bias, "(5,)")
    yield model_file("NaN", changed(bias, lambda w: w * float("nan")), bias)
    yield model_file("infinite", changed(bias, lambda w: w + float("inf")), bias)
    yield model_file("another number of channels", changed(embed, lambda w: w[:, :2]), embed)
    yield model_file("a tensor missing", lambda w: {k: v for k, v in w.items() if k != bias}, bias)
    yield model_file("a tensor too many", lambda w: {**w, "extra.weight": torch.ones(3)}, "extra.weight")
    yield model_file("others altogether", lambda w: {"x": torch.ones(3)}, "model.safetensors")

    def good() -> Callable[[], Any]:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state().items()}}, "good.pt")

        def action() -> None:
            weights = reads("good.pt")()
            assert sorted(weights) == sorted(state())
            np.save("a.npy", weights["a.weight"].numpy())

        return action

    def check(result: Result) -> None:
        assert (np.load(result.folder / "a.npy") == np.arange(1000)).all()

    yield works("weights: wrapped and parallel", good, check)
