"""Names at the door: registries of parts, and the spec strings `name:field=value,field=value`."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import types
import typing
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

P = TypeVar("P")

# The parts' common type -> the registry that builds them, so that a spec can name a part inside a part.
_REGISTRIES: dict[type, Registry[Any]] = {}


class UnknownName(ValueError):
    """A name that no registry entry has; the message holds the near names and the whole list."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that is not there: says the near one, then all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean `{near[0]}`?" if near else ""
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
    field's value, `lof(neighbors=20)` is read like `lof:neighbors=20`.
    """
    spec = spec.strip()
    if re.fullmatch(r"[^:()]+\(.*\)", spec):
        spec = f"{spec.partition('(')[0]}:{spec.partition('(')[2][:-1]}"
    name, _, rest = spec.partition(":")
    fields: dict[str, str] = {}
    for piece in _pieces(rest):
        key, equals, value = piece.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"`{spec}` should read name:field=value,field=value; `{piece}` has no `field=value` form.")
        fields[key.strip().replace("-", "_")] = value.strip()
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
        origin = typing.get_origin(option) or option
        if origin is bool:
            if text.lower() in ("true", "yes", "on", "1"):
                return True
            if text.lower() in ("false", "no", "off", "0"):
                return False
        elif origin is int or origin is float:
            try:
                return origin(text)
            except ValueError:
                continue
        elif origin is str or origin is Any:
            return text
        elif origin is typing.Literal and text in map(str, typing.get_args(option)):
            return next(value for value in typing.get_args(option) if str(value) == text)
        elif isinstance(origin, type) and origin in _REGISTRIES:
            return _REGISTRIES[origin].build(text)
        elif origin is tuple:
            inner = (typing.get_args(option) or (str,))[0]
            return tuple(convert(piece, inner, where) for piece in text.split("+"))
    choices = [str(value) for option in options for value in typing.get_args(option)]
    literal = any(typing.get_origin(option) is typing.Literal for option in options)
    wanted = f"one of {', '.join(choices)}" if literal else getattr(kind, "__name__", str(kind))
    raise ValueError(f"{where} should be {wanted}; got `{text}`.")


class Registry(dict[str, P], Generic[P]):
    """Names to parts, with an error that helps when a name is unknown.

    A part is a class whose settings are fields, or a function whose settings are keyword arguments. `part` is the
    parts' common type: specs of other parts may then name one in a field of that type. `aliases` are second names for
    specs; they are not listed.
    """

    def __init__(
        self, kind: str, entries: dict[str, P], *, part: type | None = None, aliases: dict[str, str] | None = None
    ) -> None:
        super().__init__(entries)
        self.kind, self.aliases = kind, dict(aliases or {})
        if part is not None:
            _REGISTRIES[part] = self

    def __missing__(self, name: str) -> P:
        if name in self.aliases:
            return self[self.aliases[name]]
        raise unknown_name(self.kind, name, self)

    def build(self, spec: str, **given: Any) -> Any:
        """The part that a spec string names, with its fields set. `lof` and `lof:neighbors=20` both work.

        `given` are settings beside those of the spec, as values: paths, for example, which a spec can't hold. A part
        with a class attribute `bare` takes the setting of that name without its `name=`: `pyod:ECOD`.
        """
        name = spec_name(spec)
        part: Any = self[name]
        if bare := getattr(part, "bare", ""):
            spec = re.sub(r"([:(])\s*(\w+)\s*(?=[,)]|$)", rf"\g<1>{bare}=\g<2>", spec.strip(), count=1)
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
        return part(**settings, **given)

    def describe(self) -> dict[str, str]:
        """Each name with the first line of its docstring."""
        return {name: (inspect.getdoc(part) or "").partition("\n")[0] for name, part in self.items()}
