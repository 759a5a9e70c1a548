"""What runs over images have in common, as one value: the size of the images, the batch, the layers, the device."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypedDict

from diagnostics.images.sizes import Size, as_size

# Images, or windows of them, in one forward pass. Our choice: enough to fill a CPU's cores, small enough for a
# laptop's memory.
BATCH = 8

SizeLike = Size | str | int | tuple[int, int]
Precision = Literal["fp32", "bf16"]
# Settled when a backbone is loaded: a function that is given a loaded one passes them over.
OF_LOADING = frozenset({"device", "precision"})


class RunKeywords(TypedDict, total=False):
    """The fields of RunOptions as keywords, for `**keywords: Unpack[RunKeywords]`."""

    size: SizeLike | None
    batch: int
    layers: Sequence[int] | None
    device: str
    precision: Precision
    positions: str | None
    strict: bool
    progress: bool


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run goes over its images; what it computes of them is not in here.

    Parameters
    ----------
    size
        What images are brought to: a Size, `224`, `WxH`, `short:336` or `native`, a side in pixels, or (height,
        width). None takes the backbone's own size. Kept as a Size.
    batch
        Images (windows, in segmentation) in one forward pass, at least 1.
    layers
        Layers 1…L, or negative ones from the end; None for all. Kept as a tuple.
    device
        `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:N` or `mps`. Of use where the backbone is a spec.
    precision
        `fp32` or `bf16`. Of use where the backbone is a spec.
    positions
        How positional embeddings are interpolated to other sizes, a name of POSITIONS; None takes the backbone's way.
    strict
        Raise for an image that can't be read, in place of leaving it out.
    progress
        Show a progress bar (never without a terminal).

    Raises
    ------
    ValueError
        For a value that no run can have; whether a layer exists is checked where the backbone is known.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> options = ao.RunOptions(size="short:336", layers=[-1]).changed(batch=2)
    >>> options.batch, options.layers
    (2, (-1,))
    """

    size: SizeLike | None = None
    batch: int = BATCH
    layers: Sequence[int] | None = None
    device: str = "auto"
    precision: Precision = "fp32"
    positions: str | None = None
    strict: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        if self.size is not None:
            object.__setattr__(self, "size", as_size(self.size))
        if self.layers is not None:
            object.__setattr__(self, "layers", _layers(self.layers))
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise ValueError(f"`batch` should be at least 1; got {self.batch!r}. Give a whole number, such as {BATCH}.")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", str(self.device)):
            raise ValueError(f"`device` should be auto, cpu, cuda, cuda:N or mps; got `{self.device}`.")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"`precision` should be fp32 or bf16; got `{self.precision}`.")
        for name in ("strict", "progress"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` should be True or False; got {getattr(self, name)!r}.")

    def changed(self, **keywords: Any) -> Self:
        """The same options with some fields changed, checked again."""
        return replace(self, **keywords)

    def merged(self, caller: str, keywords: Mapping[str, Any], *, uses: Collection[str]) -> Self:
        """The options of a call of `caller`, which heeds the fields `uses`: its keywords go over these.

        TypeError for a keyword that is not in `uses`; ValueError where these options set a field which the caller would
        pass over, unless it belongs to the loading of a backbone.
        """
        names = [field.name for field in fields(self)]
        for name in keywords:
            if name not in uses:
                near = difflib.get_close_matches(name, list(uses), n=1, cutoff=0.5)
                hint = f" Did you mean `{near[0]}`?" if near else ""
                raise TypeError(
                    f"`{caller}` has no option `{name}`.{hint} Options of the run: "
                    f"{', '.join(field for field in names if field in uses)}."
                )
        defaults = type(self)()
        unused = [
            name
            for name in names
            if name not in {*uses, *OF_LOADING} and getattr(self, name) != getattr(defaults, name)
        ]
        if unused:
            raise ValueError(
                f"`{caller}` can't heed {', '.join(f'`{name}`' for name in unused)}; leave it out: "
                f"options.changed({unused[0]}={getattr(defaults, unused[0])!r})."
            )
        return self.changed(**keywords)

    def size_for(self, native: tuple[int, int]) -> Size:
        """The size asked for; otherwise the model's own, `native` (height, width)."""
        return as_size(native if self.size is None else self.size)

    def blocks(self, images: int) -> list[range]:
        """Numbers of the images in batches: `batch` each, the last one what is left."""
        return [range(start, min(start + self.batch, images)) for start in range(0, images, self.batch)]


def _layers(layers: Any) -> tuple[int, ...]:
    wrong = isinstance(layers, str) or not hasattr(layers, "__iter__")
    chosen = () if wrong else tuple(layers)
    if wrong or any(isinstance(layer, bool) or not hasattr(layer, "__index__") for layer in chosen):
        raise ValueError(f"`layers` should be whole numbers such as [1, 6, -1], or None for all; got {layers!r}.")
    if not chosen:
        raise ValueError("`layers` should name at least one layer, or be None for all; got none.")
    return tuple(layer.__index__() for layer in chosen)


def run_options(
    caller: str, options: RunOptions | None, keywords: Mapping[str, Any], *, uses: Collection[str]
) -> RunOptions:
    """The options of a call: `options`, or the defaults, with the keywords of the call over them; see `merged`."""
    return (options or RunOptions()).merged(caller, keywords, uses=uses)
