"""`outliers table`: results of evaluations side by side, with what was published."""

from __future__ import annotations

from typing import Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import specs_of
from attention_outliers.commands.output import Output
from attention_outliers.commands.sheets import Form, print_cells

FolderArgument = Annotated[str, typer.Argument(help="The --out of `outliers evaluate`, or a folder above several.")]
CompareOption = Annotated[
    str | None,
    typer.Option(
        "--compare",
        autocompletion=complete.methods,
        help="Two methods, A,B: the difference of B to A over the same images.",
    ),
]


def table(
    folder: FolderArgument,
    *,
    form: Form = "text",
    compare: CompareOption = None,
    show: Output,
) -> None:
    """Print results side by side with the published numbers and the difference.

    Example: outliers table results --form markdown
    """
    from segment.evaluation.results import read_cells

    methods = [] if compare is None else specs_of(compare)
    if compare is not None and len(methods) != 2:
        raise ValueError(f"`--compare` takes two methods, such as clip,sc-clip; got `{compare}`.")
    cells = read_cells(folder)
    if not methods:
        print_cells(cells, form, show)
        return
    from segment.evaluation.metrics.bootstrap import REPLICATES
    from segment.evaluation.paired import paired_differences as paired

    differences = []
    for pair in paired(cells, *methods):
        first, second = pair.first, pair.second
        show.result(
            f"{first.dataset}, {first.backbone}, protocol {first.protocol} {first.hash}, "
            f"{first.images['scored']} images: {second.method} - {first.method} = "
            f"{100 * pair.difference:+.2f} mIoU, 95 % interval [{100 * pair.low:+.2f}, {100 * pair.high:+.2f}], "
            f"above 0 in {100 * pair.share:.1f} % of {REPLICATES} resamples"
        )
        about = {name: getattr(first, name) for name in ("dataset", "backbone", "protocol", "hash")}
        numbers = {name: getattr(pair, name) for name in ("difference", "low", "high", "share")}
        differences.append(about | {"first": first.method, "second": second.method} | numbers)
    show.record["differences"] = differences
