"""What commands print: tables and lines on standard output, or one JSON object with --json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from attention_outliers.commands.tables import Table, bold, is_styled
from diagnostics.printable import printable

if TYPE_CHECKING:
    from pandas import DataFrame

    from diagnostics import Backbone
    from diagnostics.options import SizeLike


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a command's tables and messages go. Used as a context: the JSON is printed at its end."""

    panel: ClassVar[str] = "Output"

    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print tables and errors only: no notes, progress or file names.")
    ] = False
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with all tables; messages go to standard error.")
    ] = False
    record: dict[str, Any] = field(default_factory=dict, init=False)

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A command that prints its result and exits with 1 leaves by typer's Exit.
        if self.json and (kind is None or issubclass(kind, typer.Exit)):
            typer.echo(json.dumps(plain(self.record), ensure_ascii=False, indent=2, allow_nan=False))

    @property
    def progress(self) -> bool:
        """Whether to show a progress bar."""
        return not self.quiet

    def say(self, text: str, **record: Any) -> None:
        """A message; `record` is what JSON has of it."""
        self.record.update(record)
        if not self.quiet:
            typer.echo(text, err=self.json)

    def result(self, text: str, **record: Any) -> None:
        """A line that belongs to the result: printed with --quiet, too."""
        self.record.update(record)
        if not self.json:
            typer.echo(text)

    def path(self, kind: str, place: object) -> None:
        """Where something was written, such as `figures: DIR`."""
        self.say(f"{kind}: {place}", **{kind.replace(" ", "_"): str(place)})

    def table(self, key: str, table: Table | DataFrame, title: str = "", **settings: Any) -> None:
        """Prints a table, after an empty line if it is not the first; JSON has its rows as objects under `key`."""
        if not isinstance(table, Table):
            table = Table.of_frame(table, title, **settings)
        first = not any(isinstance(value, list) for value in self.record.values())
        self.record[key] = table.records()
        if not self.json:
            typer.echo(("" if first else "\n") + table.text())

    def note(self, backbone: Backbone) -> None:
        """What has to be known about a backbone before its numbers are believed; nothing for most."""
        if backbone.note:
            self.say(backbone.note, note=backbone.note)

    def padding(self, size: SizeLike | None, backbone: Backbone) -> None:
        """Once a run, that a size which was asked for is no whole number of patches."""
        from attention_outliers.commands.fit import padding_note

        text = padding_note(size, backbone.patch_size)
        if text and self.record.get("padding") != text:
            self.say(f"note: {text}", padding=text)

    def left_out(self, reasons: Mapping[str, str]) -> None:
        """The images that were left out, or whose label map was: on standard error with --json or --quiet."""
        self.record["left_out"] = {name: printable(reason) for name, reason in reasons.items()}
        if reasons:
            lines = [f"  {printable(reason)}" for reason in reasons.values()]
            lines.insert(0, bold(f"left out ({len(reasons)}):", is_styled()))
            typer.echo("\n".join(lines), err=self.json or self.quiet)


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of numpy as numbers, NaN and infinite ones as null, paths as texts."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, int, type(None))):
        return value
    if hasattr(value, "item"):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
