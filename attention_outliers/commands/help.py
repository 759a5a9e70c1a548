"""The help of commands: as wide as the terminal, options in groups, no word broken."""

from __future__ import annotations

import inspect
import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

from attention_outliers.commands.tables import bold, is_styled, printed_width, wrapped

WIDEST = 100  # columns; longer lines are hard to read
NAMES = 26  # columns of the names of options; longer ones have a line of their own


class Command(TyperCommand):
    """A command whose help is `help_text`."""

    def get_help(self, ctx: Any) -> str:
        return help_text(self, ctx)


class Group(TyperGroup):
    """A group of commands whose help is `help_text`."""

    def get_help(self, ctx: Any) -> str:
        return help_text(self, ctx)


def help_text(command: Any, context: Any) -> str:
    """Usage, what the command does, then arguments, options by group, and commands."""
    width, styled = min(printed_width(), WIDEST), is_styled()
    usage = " ".join(command.collect_usage_pieces(context))
    lines = wrapped(f"Usage: {context.command_path} {usage}", width)
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        lines += ["", *wrapped(paragraph, width)]
    for title, entries in _sections(command, context).items():
        lines += ["", bold(f"{title}:", styled)]
        longest = max((len(names) for names, _ in entries if len(names) <= NAMES), default=NAMES)
        for names, text in entries:
            lines += _entry(names, text, longest, width)
    return "\n".join(lines)


def _sections(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Title -> names and texts: arguments and the command's own options first, those that all commands have last."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            title = "Arguments" if parameter.param_type_name == "argument" else "Options"
            sections.setdefault(getattr(parameter, "rich_help_panel", None) or title, []).append(record)
    sections["Output"] = sections.pop("Output", [])
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            about = command.get_command(context, name)
            if about is not None:
                first = re.split(r"\n\s*\n", inspect.cleandoc(about.help or ""))[0]
                sections.setdefault("Commands", []).append((name, first))
    return {title: entries for title, entries in sections.items() if entries}


def _entry(names: str, text: str, longest: int, width: int) -> list[str]:
    """An option, or a command, with its text beside it; names longer than the others have a line of their own."""
    indent = 2 + longest + 2
    texts = wrapped(text, width - indent)
    lines = [f"  {names}"] if len(names) > longest else [f"  {names.ljust(longest)}  {texts.pop(0)}".rstrip()]
    return lines + [" " * indent + line for line in texts]
