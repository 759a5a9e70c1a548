"""How an evaluation is run, as one value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict

from diagnostics.options import RunOptions
from segment.text.class_head import RowMap

# The options of a run that an evaluation heeds beside its own.
RUN_OPTIONS = ("batch", "device", "precision", "progress")


class EvaluationKeywords(TypedDict, total=False):
    """The options of an evaluation as keywords."""

    batch: int
    device: str
    precision: str
    progress: bool
    limit: int | None
    shard: int | None
    threads: int
    rows: RowMap | str | Path | None
    boundary: bool
    export: str | Path | None


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(RunOptions):
    """Options of a run, and those that only an evaluation has. Size, positions and layers are the protocol's.

    Parameters
    ----------
    limit
        How many images of the data set, the first ones; None for all.
    shard
        Images in a shard, the piece of work that a killed worker loses; None chooses by their number.
    threads
        Threads of torch in each worker; they are among the settings of a run.
    rows
        For a backbone without text tower: which rows of its classifier stand for a class.
    boundary
        Also count pixels near outlines, for boundary IoU.
    export
        A folder or URL for label maps in the data set's own encoding.

    Raises
    ------
    ValueError
        For a value that no evaluation can have.
    """

    limit: int | None = None
    shard: int | None = None
    threads: int = 1
    rows: RowMap | str | Path | None = None
    boundary: bool = True
    export: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, unit in (("limit", "image"), ("shard", "image"), ("threads", "thread")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` should be at least 1 {unit}; got {value}.")

    @classmethod
    def of(cls, options: RunOptions | None) -> EvaluationOptions:
        """The options of an evaluation with those of a run; None gives the defaults."""
        if options is None or isinstance(options, EvaluationOptions):
            return options or cls()
        return cls(**{field.name: getattr(options, field.name) for field in fields(RunOptions)})


HEEDED = (*RUN_OPTIONS, *EvaluationOptions.__annotations__)
