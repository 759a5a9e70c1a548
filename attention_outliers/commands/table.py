"""`outliers table`: results of evaluations side by side, with what was published."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console


def table(
    folder: Annotated[str, typer.Argument(help="The --out of `outliers evaluate`, or a folder above several.")],
    form: Annotated[
        Literal["text", "markdown", "latex"], typer.Option("--form", "-f", help="text, markdown or latex.")
    ] = "text",
    compare: Annotated[
        str | None,
        typer.Option("--compare", help="Two methods, A,B: the difference of B to A over the same images."),
    ] = None,
) -> None:
    """Print results side by side with the published numbers and the difference.

    Example: outliers table results --form markdown
    """
    from attention_outliers.papers.results_table import rendered, sheets
    from diagnostics.registry import split_specs
    from segment.evaluation.metrics.bootstrap import REPLICATES
    from segment.evaluation.paired import compare as paired
    from segment.evaluation.results import read_cells

    console = Console()
    cells = read_cells(folder)

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if compare is not None:
        methods = split_specs(compare)
        if len(methods) != 2:
            raise ValueError(f"`--compare` takes two methods, such as clip,sc-clip; got `{compare}`.")
        for pair in paired(cells, *methods):
            first, second = pair.first, pair.second
            tell(
                f"{first.dataset}, {first.backbone}, protocol {first.protocol} {first.hash}, "
                f"{first.images['scored']} images: {second.method} - {first.method} = "
                f"{100 * pair.difference:+.2f} mIoU, 95 % interval [{100 * pair.low:+.2f}, {100 * pair.high:+.2f}], "
                f"above 0 in {100 * pair.share:.1f} % of {REPLICATES} resamples"
            )
        return
    for number, sheet in enumerate(sheets(cells)):
        tell(("\n" if number else "") + rendered(sheet, form))
