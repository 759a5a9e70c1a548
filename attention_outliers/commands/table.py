"""`outliers table`: results of evaluations side by side, with what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import specs_of
from attention_outliers.commands.output import Output
from attention_outliers.commands.sheets import Form, print_cells

if TYPE_CHECKING:
    from segment.evaluation.paired import Compared, PairedDifference
    from segment.evaluation.results import ResultCell

FoldersArgument = Annotated[
    list[str], typer.Argument(help="The --out of `outliers evaluate`, or a folder above several. Repeat.")
]
CompareOption = Annotated[
    str | None,
    typer.Option(
        "--compare",
        autocompletion=complete.methods,
        help="Methods, backbones or folders of runs, A,B,C: the differences of the others to A over the same images.",
    ),
]


def table(
    folders: FoldersArgument,
    *,
    form: Form = "text",
    compare: CompareOption = None,
    show: Output,
) -> None:
    """Print results side by side with the published numbers and the difference.

    Example: outliers table results --form markdown

    Two settings of a method, in a folder each: outliers table first second --compare first,second
    """
    from segment.evaluation.results import read_cells

    names = [] if compare is None else specs_of(compare)
    if compare is not None and len(names) < 2:
        raise ValueError(
            f"`--compare` takes two or more methods, backbones or folders, such as clip,sc-clip; got `{compare}`."
        )
    cells = [cell for folder in folders for cell in read_cells(folder)]
    if names:
        _print_differences(cells, names, show)
    else:
        print_cells(cells, form, show)


def _print_differences(cells: list[ResultCell], names: list[str], show: Output) -> None:
    """The difference of each of the others to the first."""
    from segment.evaluation.metrics.bootstrap import REPLICATES
    from segment.evaluation.paired import compared_by, paired_differences

    by, differences = compared_by(cells, names), []
    for name in names[1:]:
        for pair in paired_differences(cells, names[0], name, by=by):
            labels = _labels(pair, by)
            show.result(
                f"{_about(pair, by)}, {pair.first.images['scored']} images: {labels[1]} - {labels[0]} = "
                f"{100 * pair.difference:+.2f} mIoU, 95 % interval [{100 * pair.low:+.2f}, {100 * pair.high:+.2f}], "
                f"above 0 in {100 * pair.share:.1f} % of {REPLICATES} resamples"
            )
            about = {key: getattr(pair.first, key) for key in ("dataset", "backbone", "protocol", "hash")}
            numbers = {key: getattr(pair, key) for key in ("difference", "low", "high", "share")}
            differences.append(about | {"by": by, "first": labels[0], "second": labels[1]} | numbers)
    if differences:
        show.result(
            "The interval holds the middle 95 % of the differences when the images are drawn again, with repetition. "
            "If 0 lies outside, other images of this kind would hardly turn the order round."
        )
    show.record["differences"] = differences


def _labels(pair: PairedDifference, by: Compared) -> tuple[str, str]:
    """What the two are called: by what they differ in."""
    sides = (pair.first, pair.second)
    if by != "folder":
        return str(getattr(sides[0], by)), str(getattr(sides[1], by))
    return f"{sides[0].method} in {sides[0].place}", f"{sides[1].method} in {sides[1].place}"


def _about(pair: PairedDifference, by: Compared) -> str:
    """What the two have in common; both protocols where they differ."""
    first, second = pair.first, pair.second
    protocols = dict.fromkeys(f"{cell.protocol} {cell.hash}" for cell in (first, second))
    model = first.method if by == "backbone" else first.backbone
    return f"{first.dataset}, {model}, protocol {' and '.join(protocols)}"
