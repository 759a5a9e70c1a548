"""Registries of parts, and spec strings `name:field=value,field=value`."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, NamedTuple, Self, TypeVar, overload

from diagnostics.sources import NotInSource, facts_of, first_line

P = TypeVar("P")
T = TypeVar("T")
# Beyond it, whole numbers don't fit into the 64 bits that torch and numpy have for them.
LARGEST_WHOLE = 2**63

# How the groups of entry points begin: [project.entry-points."attention_outliers.detectors"].
GROUP = "attention_outliers"
# The parts' common type, as `module:name`, -> the registry that builds them, so that a spec can name a part inside a
# part.
_REGISTRIES: dict[str, Registry[Any]] = {}
# Group of entry points -> the registry.
_GROUPS: dict[str, Registry[Any]] = {}
# Group -> parts that another process had registered at run time; see `adopt`.
_CARRIED: dict[str, dict[str, Any]] = {}


class UnknownName(ValueError):
    """A name that no registry entry has; the message holds the near names and the whole list."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, meant: str = "") -> UnknownName:
    """The error for a name that is not there: says what was `meant`, or else the near one, then all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = meant or next(iter(near), "")
    hint = f" Did you mean `{meant}`?" if meant else ""
    return UnknownName(f"there is no {kind} `{name}`.{hint} Known: {', '.join(known) or 'none'}.")


def _pieces(text: str) -> list[str]:
    """Text cut at commas that stand outside brackets: `a=1,b=c(d=2,e=3)` -> ["a=1", "b=c(d=2,e=3)"]."""
    pieces, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += sign
        if depth < 0:
            break
    if depth:
        raise ValueError(f"`{text}` should close every bracket that it opens, as in name:field=part(setting=value).")
    return [piece.strip() for piece in pieces if piece.strip()]


def spec_name(spec: str) -> str:
    """What stands before the first colon or bracket: `lof:neighbors=20` -> "lof"."""
    return re.split(r"[:(]", spec.strip(), maxsplit=1)[0].strip()


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """`lof:neighbors=20,contamination=0.1` -> ("lof", {"neighbors": "20", "contamination": "0.1"}).

    A field that is itself a part may carry its own settings in brackets: `sc-clip:detector=lof(neighbors=20)`. As a
    field's value, `lof(neighbors=20)` is read like `lof:neighbors=20`. ValueError for a bracket that is not closed, a
    setting named twice, and a value with a second `=`, before which a comma is missing.
    """
    spec = spec.strip()
    _pieces(spec)  # refuses brackets that are not closed, wherever they are
    if re.fullmatch(r"[^:()]+\(.*\)", spec):
        spec = f"{spec.partition('(')[0]}:{spec.partition('(')[2][:-1]}"
    name, _, rest = spec.partition(":")
    if "(" in name:
        raise ValueError(f"`{spec}` should read name:field=value or name(field=value), nothing behind the bracket.")
    fields: dict[str, str] = {}
    for piece in _pieces(rest):
        key, equals, value = piece.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"`{spec}` should read name:field=value,field=value; `{piece}` has no `field=value` form.")
        if re.match(r"[^:(/\\=]*=", value):
            raise ValueError(f"`{spec}` has two `=` in `{piece}`; put a comma between two settings.")
        field = key.strip().replace("-", "_")
        if field in fields:
            raise ValueError(f"`{spec}` sets `{field}` twice, to {fields[field]} and {value.strip()}; take one out.")
        fields[field] = value.strip()
    return name.strip(), fields


def split_specs(text: str) -> list[str]:
    """Several specs in one text, with commas, semicolons or blanks between: `norms,lof:neighbors=5,share=0.1 peak`.

    A piece `field=value` after a comma belongs to the spec before it; nothing is cut inside brackets.
    """
    specs: list[str] = []
    for chunk in re.split(r"[;\s]+", text):
        for place, piece in enumerate(_pieces(chunk)):
            if place and "=" in re.split(r"[:(]", piece, maxsplit=1)[0]:
                specs[-1] += f",{piece}"
            else:
                specs.append(piece)
    return specs


def registry_of(kind: type) -> Registry[Any] | None:
    """The registry whose parts are of this type, if any."""
    return _REGISTRIES.get(f"{kind.__module__}:{kind.__qualname__}")


def convert(text: str, kind: Any, where: str) -> Any:
    """One field's text as the type that the part's annotation asks for.

    A type whose parts have a registry is built by it: a field of type Detector takes `lof` or `lof(neighbors=20)`.
    `where` names the field in the error for a text that does not fit.
    """
    union = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    options = typing.get_args(kind) if union else (kind,)
    if type(None) in options and text.lower() == "none":
        return None
    for option in options:
        value = _as_option(text, option, where)
        if value is not _NO_FIT:
            return value
    choices = [str(value) for option in options for value in typing.get_args(option)]
    literal = any(typing.get_origin(option) is typing.Literal for option in options)
    wanted = f"one of {', '.join(choices)}" if literal else getattr(kind, "__name__", str(kind))
    raise ValueError(f"{where} should be {wanted}; got `{text}`.")


_NO_FIT = object()
_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _as_option(text: str, option: Any, where: str) -> Any:
    """The text as one of the types that an annotation allows; `_NO_FIT` where it is none of its values."""
    origin = typing.get_origin(option) or option
    if origin is bool:
        return _BOOLS.get(text.lower(), _NO_FIT)
    if origin is int or origin is float:
        number = _number(text, origin, where)
        return _NO_FIT if number is None else number
    if origin is str or origin is Any:
        return text
    if origin is typing.Literal:
        return next((value for value in typing.get_args(option) if str(value) == text), _NO_FIT)
    if origin is tuple:
        inner = (typing.get_args(option) or (str,))[0]
        return tuple(convert(piece, inner, where) for piece in text.split("+"))
    registry = registry_of(origin) if isinstance(origin, type) else None
    return _NO_FIT if registry is None else registry.build(text)


def _number(text: str, kind: type[int] | type[float], where: str) -> float | None:
    """The number that a text holds, or None; ValueError for NaN, infinity, and what 64 bits can't hold."""
    try:
        number = kind(text)
    except ValueError:
        return None
    if not (abs(number) < LARGEST_WHOLE if kind is int else math.isfinite(number)):
        raise ValueError(f"{where} should be a finite number; got `{text[:40]}`.")
    return number


class Value:
    """A part that is a value, not a class or a function: a spec changes its fields. A part derives from it.

    `named` is the part under the spec by which it was asked for, `changed` with fields set from texts.
    """

    def named(self, spec: str) -> Self:
        raise NotImplementedError(f"{type(self).__name__} should define `named`.")

    def changed(self, fields: dict[str, str]) -> Self:
        raise NotImplementedError(f"{type(self).__name__} should define `changed`.")


class BrokenPart(ValueError):
    """A part that is listed and can't be loaded; the message names what brings it, and the reason."""


@dataclass(frozen=True)
class Entry:
    """A part before it is loaded. `target` is `module:name`; `package` brings it, "" for this project itself.

    `unsupported_reason` says why it can't be loaded in this process at all.
    """

    target: str
    package: str = ""
    unsupported_reason: str = ""


@dataclass(frozen=True)
class Carried:
    """A part that was registered at run time, on its way to another process.

    `target` is `module:name`; where there is none, `unsupported_reason` says why, and `part` is the part itself for
    processes that can take it so.
    """

    group: str
    name: str
    target: str
    unsupported_reason: str = ""
    part: Any = None


class Registry(MutableMapping[str, P]):
    """Names to parts, with an error that helps when a name is unknown; a part is imported when it is asked for.

    A part is a class whose settings are fields, a function whose settings are keyword arguments, or a value.
    `entries` holds parts, or where they are: `module:name`. `part` is the parts' common type, or `module:name` of it:
    specs of other parts may then name one in a field of that type. `group` is the last word of the entry points by
    which other packages bring parts: `attention_outliers.GROUP`. `aliases` are second names for specs; they are not
    listed. `summary` is the attribute of a value with its one line.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, P | str] | Callable[[], Mapping[str, P | str]],
        *,
        group: str = "",
        part: type | str | None = None,
        aliases: dict[str, str] | None = None,
        summary: str = "summary",
    ) -> None:
        self.kind, self.group, self.summary, self.aliases = kind, group, summary, dict(aliases or {})
        self._entries = entries
        self._added: dict[str, Any] = {}
        self._loaded: dict[str, P] = {}
        self._originals: dict[str, P] = {}
        if part is not None:
            _REGISTRIES[part if isinstance(part, str) else f"{part.__module__}:{part.__qualname__}"] = self
        if group:
            _GROUPS[group] = self

    # Where a name leads

    @cached_property
    def listed(self) -> dict[str, Any]:
        """The project's own parts: the part itself, or its Entry."""
        entries = self._entries() if callable(self._entries) else self._entries
        return {name: Entry(part) if isinstance(part, str) else part for name, part in entries.items()}

    @cached_property
    def outside(self) -> dict[str, Entry]:
        """Parts that installed packages bring by entry points; a name that is taken is refused, and listed so."""
        entries: dict[str, Entry] = {}
        for point in entry_points_of(self.group) if self.group else ():
            entry = Entry(point.target, point.package)
            if point.name in self.listed or point.name in entries:
                other = entries[point.name].package if point.name in entries else "this project"
                unsupported_reason = (
                    f"the name `{point.name}` is taken by {other}: the package should give its {self.kind} another"
                )
                entries[f"{point.package}/{point.name}"] = replace(entry, unsupported_reason=unsupported_reason)
            else:
                entries[point.name] = entry
        return entries

    def _sources(self) -> Iterator[Mapping[str, Any]]:
        """Dictionaries that a name is looked up in, the first that has it wins."""
        yield self._added
        yield _CARRIED.get(self.group, {})
        yield self.listed
        yield self.outside

    def _find(self, name: str) -> Any:
        for source in self._sources():
            if name in source:
                return source[name]
        raise unknown_name(self.kind, name, self)

    def __getitem__(self, name: str) -> P:
        name = self.aliases.get(name, name) if name not in self else name
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self._find(name))
        return self._loaded[name]

    def _load(self, name: str, entry: Any) -> P:
        part: Any = self._imported(name, entry) if isinstance(entry, Entry) else entry
        if isinstance(part, Value):
            part = part.named(name)
        return typing.cast(P, part)

    def _imported(self, name: str, entry: Entry) -> Any:
        if entry.unsupported_reason:
            raise BrokenPart(f"{self.kind} `{name}` can't be used: {entry.unsupported_reason}.")
        try:
            return load_target(entry.target)
        except Exception as error:  # somebody's package may fail in any way
            if not entry.package:
                raise
            raise BrokenPart(
                f"{self.kind} `{name}` of the package `{entry.package}` ({entry.target}) can't be loaded: "
                f"{type(error).__name__}: {error}. Update or remove that package."
            ) from error

    def __iter__(self) -> Iterator[str]:
        carried = _CARRIED.get(self.group, {})
        yield from dict.fromkeys([*self.listed, *self.outside, *carried, *self._added])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(name in source for source in self._sources())

    def get(self, name: str, default: Any = None) -> Any:
        """The part, or `default` where the name is unknown."""
        if name in self:
            return self[name]
        return default

    def items(self) -> ItemsView[str, P]:
        """Names and parts, all of them loaded; without those of other packages that can't be (see `describe`)."""
        return self._usable().items()

    def values(self) -> ValuesView[P]:
        """The parts, all of them loaded; without those of other packages that can't be (see `describe`)."""
        return self._usable().values()

    def _usable(self) -> dict[str, P]:
        parts = {}
        for name in self:
            with suppress(BrokenPart):
                parts[name] = self[name]
        return parts

    # Parts at run time

    @overload
    def register(self, name: str, *, replace: bool = False) -> Callable[[T], T]: ...

    @overload
    def register(self, name: str, part: T, *, replace: bool = False) -> T: ...

    def register(self, name: str, part: Any = None, *, replace: bool = False) -> Any:
        """Gives a part a name in this process, and in worker processes where its module can be imported.

        `part` may be `module:name`. Without it, the call is a decorator: `@DETECTORS.register("peak-share")`. A name
        that is taken is refused unless `replace`; the same definition may come again, as when a cell is run twice.
        """
        if part is None:
            return lambda decorated: self.register(name, decorated, replace=replace)
        if not re.fullmatch(r"[\w./+-]+", name):
            raise ValueError(
                f"the name of a {self.kind} should have letters, digits, `-`, `_`, `.` or `/`; got `{name}`."
            )
        taken = name in self.listed or name in self.outside or name in self._added
        if taken and not replace and not _same_definition(self._added.get(name), part):
            raise ValueError(
                f"there is a {self.kind} `{name}` already. Take another name, or replace it on purpose: "
                f"register({name!r}, …, replace=True)."
            )
        self[name] = Entry(part) if isinstance(part, str) else part
        return part

    def unregister(self, name: str) -> None:
        """Takes away what `register` added, so that a part that it replaced is back. ValueError for all others."""
        if name not in self._added:
            if name in self:
                raise ValueError(f"{self.kind} `{name}` was not registered at run time, so it stays.")
            raise unknown_name(f"{self.kind} registered at run time", name, self._added)
        del self._added[name]
        self._loaded.pop(name, None)

    def __setitem__(self, name: str, part: Any) -> None:
        """As in a dictionary: a part of that name is replaced, and putting the first one back undoes it."""
        loaded = self._loaded.pop(name, None)
        if name not in self._added and loaded is not None:
            self._originals[name] = loaded
        original = self._originals.get(name, self.listed.get(name))
        self._added[name] = part
        if part is original:
            self.unregister(name)

    def __delitem__(self, name: str) -> None:
        self.unregister(name)

    # Specs

    def build(self, spec: Any, **values: Any) -> Any:
        """The part that a spec string names, with its fields set. `lof` and `lof:neighbors=20` both work.

        What is no text is a part already and comes back as it is. `values` are settings beside those of the spec:
        paths, for example, which a spec can't hold. A part with a class attribute `bare` takes the setting of that
        name without its `name=`: `pyod:ECOD`.
        """
        if not isinstance(spec, str):
            return spec
        name = spec_name(spec)
        part: Any = self[name]
        if isinstance(part, Value):
            return part.changed(parse_spec(spec)[1]).named(spec.strip())
        if bare := getattr(part, "bare", ""):
            spec = re.sub(r"([:(])\s*([^=,()]+?)\s*(?=[,)]|$)", rf"\g<1>{bare}=\g<2>", spec.strip(), count=1)
        name, fields = parse_spec(spec)
        parameters = {
            key: parameter
            for key, parameter in inspect.signature(part).parameters.items()
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        }
        target = part if dataclasses.is_dataclass(part) or inspect.isfunction(part) else part.__init__
        hints = typing.get_type_hints(target)
        settings = {}
        for key, text in fields.items():
            if key not in parameters:
                raise unknown_name(f"setting of {self.kind} `{name}`", key, parameters)
            settings[key] = convert(text, hints.get(key, str), f"`{key}` of {self.kind} `{name}`")
        missing = [
            key
            for key, parameter in parameters.items()
            if parameter.default is parameter.empty and key not in settings and key not in values
        ]
        if missing:
            raise ValueError(
                f"{self.kind} `{name}` should be given {', '.join(f'`{key}`' for key in missing)}: "
                f"{name}:{','.join(f'{key}=…' for key in missing)}, or as a value in Python."
            )
        return part(**settings, **values)

    # What is listed without loading anything

    def describe(self) -> dict[str, str]:
        """Each name with its one line, read from the source files; nothing is imported that was not before.

        A part of another package that can't be read or loaded is listed with the reason.
        """
        return {name: self._line(name) for name in self}

    def facts(self, name: str) -> dict[str, Any]:
        """The constants that a part's source states, without importing it: class attributes, or a value's fields.

        `doc` is its one line. What is no constant is left out, and of a part of another package that can't be
        loaded all but `doc`, which is the reason.
        """
        part = self._find(name)
        if isinstance(part, Entry) and not part.unsupported_reason:
            with suppress(NotInSource):
                return facts_of(part.target)
        try:
            part = self[name]
        except BrokenPart as error:
            return {"doc": str(error)}
        fields = vars(part) if not isinstance(part, type) else {key: getattr(part, key) for key in dir(part)}
        plain = (str, int, float, bool, tuple, type(None))
        return {key: value for key, value in fields.items() if isinstance(value, plain)} | {
            "doc": first_line(part.__doc__)
        }

    def _line(self, name: str) -> str:
        part = self._find(name)
        if isinstance(part, Entry):
            if part.unsupported_reason:
                return f"can't be used: {part.unsupported_reason}"
            try:
                facts = facts_of(part.target)
                return str(facts.get(self.summary) or facts.get("doc", ""))
            except NotInSource:  # defined in no way that can be read, or not at all: loading it tells
                try:
                    part = self[name]
                except BrokenPart as error:
                    return str(error)
        if not isinstance(part, type) and not inspect.isroutine(part):
            return str(getattr(part, self.summary, "")) or first_line(inspect.getdoc(part))
        return first_line(inspect.getdoc(part))


# Parts of other packages and of other processes


class Point(NamedTuple):
    """An entry point: the part's name, `module:name`, and the package that brings it."""

    name: str
    target: str
    package: str


@cache
def _all_points() -> dict[str, tuple[Point, ...]]:
    """Group -> entry points, of each package that is installed; of two with one name the first on the path counts."""
    from importlib.metadata import distributions  # here, since a name of our own needs no look at what is installed

    points: dict[str, list[Point]] = {}
    packages = set()
    for package in distributions():
        if f"{GROUP}." not in (package.read_text("entry_points.txt") or "") or package.name in packages:
            continue
        packages.add(package.name)
        for point in package.entry_points:
            target = point.value.partition("[")[0].strip()
            points.setdefault(point.group, []).append(Point(point.name, target, package.name))
    return {group: tuple(several) for group, several in points.items()}


def entry_points_of(group: str) -> list[Point]:
    """The entry points of the group `attention_outliers.GROUP`, sorted by package and name."""
    points = _all_points().get(f"{GROUP}.{group}", ())
    return sorted(points, key=lambda point: (point.package, point.name))


def load_target(target: str) -> Any:
    """What `module:name` stands for; `name` may go into classes, `A.B`, and end in a key, `TABLE[key]`."""
    module, colon, name = target.partition(":")
    name, _, key = name.removesuffix("]").partition("[")
    if not colon or not name:
        raise ValueError(f"a part should be named as `module:name`; got `{target}`.")
    part: Any = importlib.import_module(module)
    for piece in name.split("."):
        part = getattr(part, piece)
    return part[key] if key else part


def target_of(part: Any) -> str:
    """`module:name` by which another process can import this very object; ValueError that says why it can't."""
    if isinstance(part, Entry):
        return part.target
    module, name = getattr(part, "__module__", ""), getattr(part, "__qualname__", "")
    if not name:  # a value: a module's constant, if any
        for module, loaded in list(sys.modules.items()):
            names = vars(loaded) if isinstance(loaded, types.ModuleType) and module != "__main__" else {}
            name = next((key for key, value in list(names.items()) if value is part), "")
            if name:
                return f"{module}:{name}"
        raise ValueError(f"this {type(part).__name__} is no constant of a module")
    if module == "__main__":
        raise ValueError(f"`{name}` was defined in a notebook or script (`__main__`)")
    if "<" in name:
        raise ValueError(f"`{name}` was defined inside a function")
    try:
        same = load_target(f"{module}:{name}") is part
    except Exception as error:  # a module that is gone, or made by hand
        raise ValueError(f"`{module}:{name}` can't be imported: {error}") from error
    if not same:
        raise ValueError(f"`{module}:{name}` is another object by now")
    return f"{module}:{name}"


def carried_parts(*, by_value: bool = False) -> tuple[Carried, ...]:
    """All parts that were registered at run time in this process, as another process can have them.

    `by_value`: those that can't be imported go along as they are, which Ray can do, and multiprocessing can't.
    """
    carried = []
    for group, registry in _GROUPS.items():
        for name, part in {**_CARRIED.get(group, {}), **registry._added}.items():
            if isinstance(part, Entry) and part.unsupported_reason:
                carried.append(Carried(group, name, "", part.unsupported_reason))
                continue
            try:
                carried.append(Carried(group, name, target_of(part)))
            except ValueError as error:
                unsupported_reason = (
                    f"{error}, so worker processes can't import it. Put it into a module and import it from there, or "
                    "work in this process: --workers 1, in Python engine=Local(workers=1)"
                )
                carried.append(Carried(group, name, "", unsupported_reason, part if by_value else None))
    return tuple(carried)


def adopt(parts: Iterable[Carried]) -> None:
    """Makes the parts of another process known here; one that can't be imported is refused when it is asked for."""
    for part in parts:
        entry = Entry(part.target, unsupported_reason=part.unsupported_reason) if part.part is None else part.part
        _CARRIED.setdefault(part.group, {})[part.name] = entry
        if part.group in _GROUPS:
            _GROUPS[part.group]._loaded.pop(part.name, None)


def _same_definition(before: Any, part: Any) -> bool:
    """Whether both are one class or function, perhaps executed twice."""
    if before is None:
        return False
    places = [
        (getattr(definition, "__module__", None), getattr(definition, "__qualname__", None))
        for definition in (before, part)
    ]
    return before is part or (places[0] == places[1] and None not in places[0])
