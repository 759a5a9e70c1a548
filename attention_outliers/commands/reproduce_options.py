"""Options of `outliers reproduce`: which part of the tables, where the data sets lie, and who does the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.evaluate_options import settings_of
from attention_outliers.commands.options import Batch, Device, Precision, Threads, Workers, keywords

if TYPE_CHECKING:
    from attention_outliers.papers.experiment import Experiment
    from attention_outliers.papers.plan import Selection
    from attention_outliers.papers.reproduce import ReproduceOptions


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is measured of the tables, and with what."""

    panel: ClassVar[str] = "Parts of the tables"

    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first images of each.")] = None
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            "-b",
            autocompletion=complete.backbones,
            help="One backbone for all rows, instead of the paper's.",
        ),
    ] = ""
    second: Annotated[
        str,
        typer.Option(
            "--second",
            autocompletion=complete.backbones,
            help="One second backbone for all rows that have one, instead of the paper's.",
        ),
    ] = ""
    data_sets: Annotated[
        str,
        typer.Option(
            "--data-sets",
            autocompletion=complete.datasets,
            help="Only the columns of these data sets: voc21,ade150.",
        ),
    ] = ""
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", help="Only this row, by its name or whole words of it: --rows SC-CLIP. Repeat."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Changes one setting of every row's protocol: --set windows=whole. Repeat."),
    ] = None
    offline: Annotated[
        bool, typer.Option("--offline", help="Drawn scenes for every data set and, unless --backbone, pocket for all.")
    ] = False

    def of(self, name: str) -> list[tuple[Experiment, Selection]]:
        """The tables of that name, with the rows and data sets asked for."""
        from attention_outliers.papers import experiments_named
        from attention_outliers.papers.plan import Selection, narrowed
        from segment.evaluation.protocols import PROTOCOLS

        settings = tuple(sorted(settings_of(self.settings or []).items()))
        PROTOCOLS["ours"].elsewhere.changed(dict(settings))  # an unknown one is refused before anything is run
        columns = [text.strip() for text in self.data_sets.split(",") if text.strip()]
        chosen = keywords(self, "backbone", "second", "offline", "limit")
        return [
            (table, Selection(data_sets=names, settings=settings, **chosen))
            for table, names in narrowed(experiments_named(name), self.rows or [], columns)
        ]


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Who does the work."""

    panel: ClassVar[str] = "Processes"

    workers: Workers = None
    batch: Batch = 8
    device: Device = "auto"
    precision: Precision = "fp32"
    threads: Threads = 1

    def how(self, *, progress: bool) -> ReproduceOptions:
        """The settings of a reproduction."""
        from attention_outliers.papers.reproduce import ReproduceOptions
        from segment.evaluation.engines.local import Local

        settings = keywords(self, "batch", "device", "precision", "threads")
        return ReproduceOptions(engine=Local(workers=self.workers), progress=progress, **settings)


def roots_of(texts: list[str]) -> dict[str, Path]:
    """["/data", "voc21=/voc"] -> {"": /data, "voc21": /voc}. ValueError where two stand for the same."""
    roots: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or "/" in name:  # a folder may have = in its name
            name, folder = "", text
        if name.strip() in roots:
            what = f"of `{name}`" if name else "for all data sets"
            raise ValueError(f"`--root` names two folders {what}: {roots[name.strip()]} and {folder}. Give one.")
        roots[name.strip()] = Path(folder).expanduser()
    return roots
