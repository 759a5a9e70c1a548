"""The weights of a TorchScript archive, read as data: nothing that the archive holds is run.

`torch.jit.load` runs what a class says of how it is restored (`__setstate__`), and that may write files. Here the
archive's pickle is followed opcode by opcode by a machine that knows plain values, tensors and records with a name, and
calls nothing by name; the archive's code is looked at as text, for the names of parameters and buffers.
"""

from __future__ import annotations

import pickletools
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
# Calls in a pickle that hand on their first argument: lists with a type, parameters.
WRAPPINGS = {
    "torch.jit._pickle build_intlist",
    "torch.jit._pickle build_doublelist",
    "torch.jit._pickle build_boollist",
    "torch.jit._pickle build_tensorlist",
    "torch.jit._pickle restore_type_tag",
    "torch._utils _rebuild_parameter",
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PLAIN = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
# Our choice: the pickle and the code of OpenAI's largest model take less than 2 MB; more would be no model.
LARGEST_TEXT = 64 * 2**20
MOST_MODULES, DEEPEST = 100_000, 100
CLASS = re.compile(r"^class +(\w+)(\(Module\))?[^\n]*:\n((?:[ \t][^\n]*\n|\n)*)", re.MULTILINE)


class NeedsCode(ValueError):
    """The archive restores a module by code of its own."""


class Name(str):
    """A class or function that a pickle names: `module name`."""


class Storage(NamedTuple):
    """A flat piece of memory that tensors look into."""

    values: Tensor


@dataclass
class Record:
    """An object of a named kind with its state, or a call that is not made, with its arguments."""

    kind: str
    state: Any = None


class Declared(NamedTuple):
    """What the code says of a class: its parameters and buffers by name, None where it does not say."""

    module: bool
    parameters: list[str] | None
    buffers: list[str] | None
    restored_by_code: bool


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Name -> parameter or buffer, as the loaded module's state dict has them, on the CPU.

    Raises NeedsCode for a module with a `__setstate__` of its own, and ValueError or an error of zipfile's for an
    archive that is damaged or of another form.
    """
    with zipfile.ZipFile(path) as archive:
        folders = [name.partition("/")[0] for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(folders) != 1:
            raise ValueError(f"it should hold one data.pkl; it holds {len(folders)}")
        order = f"{folders[0]}/byteorder"
        if order in archive.namelist() and archive.read(order).decode() != sys.byteorder:
            raise ValueError("its numbers are in another byte order than this machine's")
        root = _Machine(archive, folders[0]).run(_text(archive, f"{folders[0]}/data.pkl"))
        declared = dict(_declared(archive, folders[0]))
    if not isinstance(root, Record):
        raise ValueError(f"it should hold a module; it holds {type(root).__name__}")
    return _state_dict(root, declared)


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST_TEXT:
        raise ValueError(f"{name} is longer than {LARGEST_TEXT} bytes")
    return archive.read(name)


UNDECLARED = Declared(True, None, None, False)


class _Machine:
    """Follows a pickle as torch's TorchScript writer makes them; any other opcode raises ValueError."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive, self.folder = archive, folder
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, text: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(text):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in PLAIN:
                self.stack.append(argument)
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[_checked(argument, int)] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[_checked(argument, int)])
            elif name != "PROTO":
                self._apply(name, argument)
        raise ValueError("its data.pkl does not end")

    def _apply(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name == "GLOBAL":
            stack.append(Name(argument))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT"):
            stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[name]())
        elif name == "TUPLE":
            stack.append(tuple(self._above_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS"):
            items = self._above_mark() if name == "APPENDS" else [stack.pop()]
            _checked(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._above_mark() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            for key, value in zip(items[::2], items[1::2], strict=True):
                _checked(stack[-1], dict)[_checked(key, (str, int, float))] = value
        elif name == "BINPERSID":
            stack.append(self._storage(_checked(stack.pop(), tuple)))
        elif name == "NEWOBJ":
            stack.pop()
            stack.append(Record(_checked(stack.pop(), Name)))
        elif name == "REDUCE":
            arguments = _checked(stack.pop(), tuple)
            stack.append(_called(_checked(stack.pop(), Name), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _checked(stack[-1], Record).state = state
        else:
            raise ValueError(f"its data.pkl holds {name}, which no TorchScript archive has")

    def _above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def _storage(self, identity: tuple[Any, ...]) -> Storage:
        """`("storage", kind, key, device, length)` as the values of `data/KEY`."""
        _, kind, key, _, length = identity
        name = f"{self.folder}/data/{key}"
        if name not in self.storages:
            if kind not in STORAGES:
                raise ValueError(f"its numbers are {str(kind)[:40]}; known: {', '.join(STORAGES)}")
            size = self.archive.getinfo(name).file_size
            if size != int(length) * STORAGES[kind].itemsize:
                raise ValueError(f"{name} has {size} bytes for {length} numbers of {kind}")
            values = bytearray(self.archive.read(name))
            dtype = STORAGES[kind]
            self.storages[name] = Storage(
                torch.frombuffer(values, dtype=dtype) if values else torch.empty(0, dtype=dtype)
            )
        return self.storages[name]


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"its data.pkl holds {type(value).__name__} where another kind of value belongs")
    return value


def _called(function: Name, arguments: tuple[Any, ...]) -> Any:
    """What a call in the pickle stands for: a tensor, an empty dict, a wrapped value; else a record of the call."""
    if function == "torch._utils _rebuild_tensor_v2":
        storage, offset, size, stride = arguments[:4]
        return torch.as_strided(_checked(storage, Storage).values, size, stride, offset)
    if function == "collections OrderedDict" and not arguments:
        return {}
    if function in WRAPPINGS and arguments:
        return arguments[0]
    return Record(function, arguments)


def _declared(archive: zipfile.ZipFile, folder: str) -> Iterator[tuple[str, Declared]]:
    """Each class in the archive's code, by the name that the pickle gives it."""
    start = f"{folder}/code/"
    names = [name for name in archive.namelist() if name.startswith(start) and name.endswith(".py")]
    if sum(archive.getinfo(name).file_size for name in names) > LARGEST_TEXT:
        raise ValueError(f"its code is longer than {LARGEST_TEXT} bytes")
    for name in names:
        module = name.removeprefix(start).removesuffix(".py").replace("/", ".")
        for match in CLASS.finditer(archive.read(name).decode("utf-8") + "\n"):
            body = match[3]
            listed = {
                key: re.search(rf"^  __{key}__ = \[(.*)\]$", body, re.MULTILINE) for key in ("parameters", "buffers")
            }
            parameters, buffers = (
                None if line is None else re.findall(r'"((?:[^"\\]|\\.)*)"', line[1]) for line in listed.values()
            )
            restored = re.search(r"^  def __setstate__\(", body, re.MULTILINE) is not None
            yield f"{module} {match[1]}", Declared(match[2] is not None, parameters, buffers, restored)


def _state_dict(root: Record, declared: dict[str, Declared]) -> dict[str, Tensor]:
    """Parameters, buffers, then the modules inside, in the order of a module's own `state_dict`."""
    weights: dict[str, Tensor] = {}
    waiting = [("", 0, root)]
    visited = 0
    while waiting:
        start, depth, module = waiting.pop()
        visited += 1
        if visited > MOST_MODULES or depth > DEEPEST:
            raise ValueError(f"it holds more than {MOST_MODULES} modules, or one inside itself")
        declaration = declared.get(module.kind, UNDECLARED)
        if declaration.restored_by_code or not isinstance(module.state, dict):
            raise NeedsCode(f"`{module.kind}` at `{start or 'the top'}` is restored by code of its own")
        state = module.state
        names = [name for name, value in state.items() if isinstance(value, Tensor)]
        if declaration.parameters is not None and declaration.buffers is not None:
            names = declaration.parameters + declaration.buffers
        for name in names:
            if isinstance(state.get(name), Tensor):
                weights[f"{start}{name}"] = state[name]
            elif state.get(name) is not None:
                raise ValueError(f"`{start}{name}` is no plain tensor")
        inside = [(f"{start}{name}.", depth + 1, value) for name, value in state.items() if _is_module(value, declared)]
        waiting += reversed(inside)
    return weights


def _is_module(value: Any, declared: dict[str, Declared]) -> bool:
    """Whether a value is a module; a class that the code does not declare is taken for one."""
    return (
        isinstance(value, Record) and value.kind.startswith("__torch__") and declared.get(value.kind, UNDECLARED).module
    )
