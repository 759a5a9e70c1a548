"""Options of `outliers segment`: how dense features become label maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import Strict, keywords, specs_of

if TYPE_CHECKING:
    from diagnostics.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How dense features become label maps."""

    panel: ClassVar[str] = "Decoding"

    windows: Annotated[
        str,
        typer.Option(
            "--windows",
            autocompletion=complete.windows,
            help="slide, slide:crop=224,stride=112, whole, or center; see `outliers list windows`.",
        ),
    ] = "slide"
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Size of the image before windows are cut: short:336, 224, WxH, native. By default that of --windows. "
            "Memory: 45 bytes a pixel of the image, 12 more for each further method; see docs/segment.md.",
        ),
    ] = None
    scale: Annotated[float | None, typer.Option("--scale", help="Factor of the cosines before the softmax.")] = None
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Pixels whose best probability is below it become background."),
    ] = None
    smallest_area: Annotated[
        float | None,
        typer.Option("--smallest-area", help="Classes with at most this share of the foreground are left out."),
    ] = None
    refine: Annotated[
        str,
        typer.Option(
            "--refine",
            autocompletion=complete.refiners,
            help="none, pamr, pamr:iterations=10, …; see `outliers list refiners`.",
        ),
    ] = "none"
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows in one forward pass.")] = 8
    strict: Strict = False

    def options(self, positions: str | None, *, progress: bool) -> RunOptions:
        """How windows go through the backbone."""
        from diagnostics.options import RunOptions

        return RunOptions(size=self.size, batch=self.batch, strict=self.strict, positions=positions, progress=progress)

    def methods(self, specs: str) -> list[Any]:
        """The methods of a list, with the settings of decoding that were given."""
        from segment.methods import METHODS

        settings = keywords(self, "scale", "threshold", "smallest_area")
        changed = {name: value for name, value in settings.items() if value is not None}
        methods = [METHODS.build(spec) for spec in specs_of(specs)]
        return [replace(method, decode=replace(method.decode, **changed)) for method in methods]
