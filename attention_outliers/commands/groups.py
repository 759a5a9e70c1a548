"""Groups of options as values: a command names a dataclass, the command line shows its fields as options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer reads it: each parameter whose type is a dataclass is replaced by the fields of that.

    A field's annotation carries its option, as `Annotated[int, typer.Option("--batch")]`. A group that is a context
    manager is entered around the call. Options of a group with a `panel` stand under that title in the help.
    """
    hints = get_type_hints(function, include_extras=True)
    kinds = {name: hints[name] for name in inspect.signature(function).parameters if is_dataclass(hints[name])}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in kinds:
            parameters += _options(kinds[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def command(**values: Any) -> None:
        with ExitStack() as stack:
            for name, kind in kinds.items():
                group = kind(**{field.name: values.pop(field.name) for field in fields(kind) if field.init})
                values[name] = stack.enter_context(group) if hasattr(group, "__exit__") else group
            function(**values)

    del command.__wrapped__  # its signature is not that of the command
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _options(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=_in_panel(hints[field.name], getattr(kind, "panel", None)),
        )
        for field in fields(kind)
        if field.init
    ]


def _in_panel(annotation: Any, panel: str | None) -> Any:
    kind, option = get_args(annotation)
    if panel is not None:
        option = copy(option)
        option.rich_help_panel = panel
    return Annotated[kind, option]
