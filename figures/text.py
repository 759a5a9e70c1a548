"""Words on figures: names with units, short numbers, and what to say when a data set lacks something."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

import xarray as xr

NO_BREAK = "\u00a0"  # a space at which lines are not broken


def name_of(measurement: xr.DataArray) -> str:
    """What was measured, in words: its long name, or the variable's own name."""
    return str(measurement.attrs.get("long_name") or str(measurement.name or "value").replace("_", " "))


def unit_of(measurement: xr.DataArray) -> str:
    """The unit; empty for plain numbers, whose unit is 1."""
    unit = str(measurement.attrs.get("units", ""))
    return "" if unit == "1" else unit


def label_of(measurement: xr.DataArray, *, log: bool = False, width: int | None = None) -> str:
    """`name (unit, log scale)`, in lines of at most `width` characters that leave what is in brackets together."""
    notes = ", ".join(filter(None, (unit_of(measurement), "log scale" if log else "")))
    if not notes:
        return wrapped(name_of(measurement), width)
    together = notes.replace(" ", NO_BREAK)
    return wrapped(f"{name_of(measurement)} ({together})", width).replace(NO_BREAK, " ")


def wrapped(text: str, width: int | None) -> str:
    """Text in lines of at most `width` characters, broken between words; one line without a width."""
    if width is None:
        return text
    return "\n".join(textwrap.wrap(text, width, break_long_words=False))


def short_number(value: float, digits: int = 3) -> str:
    """A number with `digits` leading digits, at least 2: 0.00123, 0.45, 540, 12345, 1.23e7, 6.4e-5."""
    whole = 10 ** (digits - 1) <= abs(value) < 1e6
    mantissa, exponential, exponent = (f"{value:.0f}" if whole else f"{value:.{digits}g}").partition("e")
    return f"{mantissa}e{int(exponent)}" if exponential else mantissa


def shortened(text: str, most: int) -> str:
    """Text of at most `most` characters, with … in its middle where some were taken out."""
    if len(text) <= most:
        return text
    kept = max(most - 1, 2)
    return f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"


def without_folders(spec: str) -> str:
    """A spec whose file has lost its folders: `timm:vit@/data/a.safetensors` -> `timm:vit@a.safetensors`.

    So have `openai:` and `local-dir:`; names that hold a slash of their own, as `open_clip:ViT-B-16/openai`, stay.
    """
    before, mark, path = spec.partition("@")
    if not mark and re.match(r"(openai|local-dir):", spec):
        before, mark, path = spec.partition(":")
    return before + mark + re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def present(dataset: xr.Dataset, names: Iterable[str], *, figure: str) -> list[str]:
    """Those of `names` that the data set has; ValueError if it has none of them, or no image."""
    names = list(names)
    measured = [name for name in names if name in dataset.data_vars]
    if not measured:
        wanted = ", ".join(f"`{name}`" for name in names)
        had = ", ".join(f"`{name}`" for name in dataset.data_vars) or "no variables"
        raise ValueError(
            f"{figure} should get a data set with {'one of ' if len(names) > 1 else ''}{wanted}; "
            f"it has {had}. Probe with the measures that yield them."
        )
    if not dataset.sizes.get("image", 1):
        raise ValueError(f"{figure} should get at least one image; all of this data set were left out.")
    return measured


def needs_dims(measurement: xr.DataArray, *dims: str, figure: str) -> None:
    """ValueError unless the measurement has these dimensions."""
    if missing := [dim for dim in dims if dim not in measurement.dims]:
        raise ValueError(
            f"{figure} should get a measurement with the dims {', '.join(dims)}; `{measurement.name}` has "
            f"{tuple(measurement.dims)} and lacks {', '.join(missing)}."
        )
