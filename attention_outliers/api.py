"""What the command line does, as functions: a figure of a paper, a page to look inside with, a paper's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from attention_outliers.papers.experiment import Experiment
    from attention_outliers.papers.plan import Selection
    from attention_outliers.papers.reproduce import ReproduceKeywords, Reproduction
    from diagnostics.backbones.base import Backbone
    from diagnostics.options import RunKeywords, RunOptions
    from segment.evaluation.engines.base import Engine


def figure(
    name: str,
    backbone: str | Backbone,
    images: str | Path | Sequence[str | Path] | None = None,
    *,
    second: str | Backbone | None = None,
    number: int = 0,
    labels: str | Path | None = None,
    classes: str | Sequence[str] | None = None,
    templates: str = "openai-80",
    ignore: int = 255,
    scenes: int = 8,
) -> Figure:
    """A figure of a paper, drawn from a backbone and images.

    Parameters
    ----------
    name : str
        Paper and figure, such as `clearclip/fig-4a`; `ao.PAPER_FIGURES` holds them all.
    backbone : str or Backbone
        What is measured: a spec, which is loaded, or a loaded backbone.
    images : path, glob, list of them, or None
        Files, folders or globs. None draws `scenes` labeled scenes, which bring their words along.
    second : str, Backbone or None
        The other backbone of figures that set two side by side.
    number : int
        The image, counted from 0, of figures about one image; others are about all images.
    labels : path or None
        Folder of label maps (H, W) named as the images.
    classes : str or list of str, or None
        Words of the classes, in the order of the labels' numbers: `"cat, dog, grass"`.
    templates : str
        Sentences around the words; see `outliers list templates`.
    ignore : int
        The label that is no class.
    scenes : int
        How many scenes are drawn where there are no images, at least 1.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        For an unknown figure, for one that needs words or labels that are not there, and for an image number that
        does not exist.
    OSError
        If no image can be read.

    Source
    ------
    `ao.PAPER_FIGURES[name].claim` says what the paper shows in this figure.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> drawn = ao.figure("sfp/supp-fig-1", "pocket:planted", scenes=2)
    >>> type(drawn).__name__
    'Figure'
    """
    from attention_outliers.papers.figures import paper_figure
    from attention_outliers.papers.report import gather
    from diagnostics.backbones import load_backbone

    entry = paper_figure(name)
    model, other = (load_backbone(wanted) if isinstance(wanted, str) else wanted for wanted in (backbone, second))
    assert model is not None
    inputs = gather(model, images, labels=labels, classes=classes, templates=templates, ignore=ignore, scenes=scenes)
    lacking = {"words": inputs.text is None, "labels": inputs.labels is None}
    missing = [need for need in entry.needs if lacking[need]]
    if missing:
        arguments = {"words": 'classes="cat, dog, grass"', "labels": "labels=FOLDER"}
        raise ValueError(
            f"`{name}` needs {' and '.join(missing)}; give {' and '.join(arguments[need] for need in missing)}, or "
            "leave `images` out for drawn scenes."
        )
    if not 0 <= number < len(inputs.images):
        raise ValueError(f"`number` should be an image from 0 to {len(inputs.images) - 1}; got {number}.")
    inputs = inputs if other is None else replace(inputs, second=other)
    return entry.draw(entry.view(inputs, number))


def view(
    backbone: str | Backbone,
    images: Any,
    out: str | Path = "page.html",
    *,
    classes: str | Sequence[str] | None = None,
    methods: Sequence[str] = ("clip", "clearclip", "sc-clip"),
    detectors: Sequence[str] | None = None,
    purifier: str = "neighbor-mean",
    purified_by: str | None = None,
    templates: str = "openai-80",
    windows: str = "slide",
    heads: Literal["all", "mean"] = "all",
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> Path:
    """A page to look inside with: point at a patch and see its norm, attention and similarity in every layer.

    The page is one HTML file of at most 15 MB, which needs no server and no network.

    Parameters
    ----------
    backbone : str or Backbone
        What is looked into: a spec, which is loaded, or a loaded backbone.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        The images of the page; a few.
    out : path
        The file to write; one of that name is replaced.
    classes : str or list of str, or None
        Words for label maps, such as `"cat, dog, grass"`; None draws no label maps.
    methods : list of str
        Specs of the methods whose label maps are drawn, where there are classes.
    detectors : list of str, or None
        Specs of detectors; None takes five common ones, as far as they can run.
    purifier : str
        Spec of what replaces the outliers.
    purified_by : str or None
        Which of the detectors says what is replaced; None takes the first.
    templates : str
        Sentences around the words; see `outliers list templates`.
    windows : str
        Windows of the label maps; see `outliers list windows`.
    heads : {"all", "mean"}
        Attention of all heads, or their mean alone.
    options, **keywords
        Options of the run: `layers`, `size`, and `strict`, which raises for an image that can't be read rather than
        leave it out with a warning; see RunOptions.

    Returns
    -------
    pathlib.Path
        The page, written.

    Raises
    ------
    ValueError
        For unknown parts and settings, and if no image can be read.

    Examples
    --------
    >>> import tempfile
    >>> import attention_outliers as ao
    >>> scene = ao.Shapes(scenes=1)[0].image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = ao.view("pocket:planted", scene, f"{folder}/page.html", layers=[1, 8])
    ...     page.name, page.stat().st_size < 15e6
    ('page.html', True)
    """
    import warnings

    from attention_outliers.view_page import view_page
    from diagnostics.backbones import load_backbone
    from diagnostics.options import run_options
    from segment.text.features import text_features

    model = load_backbone(backbone) if isinstance(backbone, str) else backbone
    words = classes if isinstance(classes, str) or classes is None else list(classes)
    text = None if words is None else text_features(model, words, templates, progress=False)
    page = Path(out)
    left_out = view_page(
        model,
        images,
        page,
        detectors=detectors,
        purifier=purifier,
        purified_by=purified_by,
        methods=methods,
        text=text,
        windows=windows,
        heads=heads,
        options=run_options("view", options, keywords, uses=("layers", "size", "strict")),
    )
    if left_out:
        warnings.warn(f"left out ({len(left_out)}): {'; '.join(left_out.values())}", stacklevel=2)
    return page


def reproduce(
    table: str,
    out: str | Path,
    *,
    root: str | Path | Mapping[str, str | Path] | None = None,
    rows: Sequence[str] = (),
    data_sets: Sequence[str] = (),
    backbone: str = "",
    second: str = "",
    offline: bool = False,
    settings: Mapping[str, str] | None = None,
    engine: Engine | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[ReproduceKeywords],
) -> pd.DataFrame:
    """A table of a paper measured again: our numbers beside the printed ones.

    What `out` has already is not run again, and an interrupted run resumes. A cell that can't be run has its reason,
    and the others go on.

    Parameters
    ----------
    table : str
        Paper and table, such as `sc-clip/table-3`; `ao.experiments()` holds them all.
    out : path or URL
        Where results are kept.
    root : path, dict or None
        The folder that holds the data sets, or one for each: `{"voc21": "/data/VOCdevkit"}`; under `""` that of all
        others.
    rows : list of str
        Only these rows, by name or whole words of it; all by default.
    data_sets : list of str
        Only the columns of these data sets, such as `["voc21"]`; all by default.
    backbone : str
        One backbone for all rows in place of the paper's.
    second : str
        One second backbone for all rows that have one, in place of the paper's.
    offline : bool
        Drawn scenes for every data set and, unless `backbone` is given, the embedded model for every row: shows that
        the table runs, not the paper's numbers.
    settings : dict of str to str, or None
        Fields of every row's protocol that are changed: `{"windows": "whole"}`.
    engine : Engine or None
        Who works: `ao.Local(workers=2)`, `ao.RayCluster()`. None starts a process for each GPU, or core.
    options, **keywords
        Options of each run, as of `ao.evaluate`: `limit` (only the first images of each data set), `batch` (windows in
        one forward pass), `device`, `precision`, `threads` and `progress`.

    Returns
    -------
    pandas.DataFrame
        A row for each cell: `row` and `column` as in the paper; `ours` and `printed` in the paper's unit (mostly per
        cent), NaN where there is none; `difference`, ours - printed, NaN where offline and
        with other weights or settings than the paper's; `complete`, whether all
        images of the data set were scored; `reason` why there is no number of ours, empty where there is.

    Raises
    ------
    ValueError
        For a table, row or data set that does not exist.

    Source
    ------
    `ao.experiments()[table].source` says where the printed numbers stand.

    Examples
    --------
    >>> import tempfile
    >>> import attention_outliers as ao
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cells = ao.reproduce(
    ...         "sc-clip/table-3", folder, rows=["baseline"], data_sets=["voc21"], offline=True, limit=2,
    ...         engine=ao.Local(workers=1),
    ...     )
    >>> list(cells["column"].unique()), bool(cells["ours"].notna().any())
    (['V21'], True)
    """
    from attention_outliers.papers import experiments
    from attention_outliers.papers.plan import Selection, missing_data_set
    from attention_outliers.papers.reproduce import ReproduceOptions
    from attention_outliers.papers.reproduce import reproduce as run
    from diagnostics.registry import unknown_name
    from segment.evaluation.options import EvaluationOptions

    uses = ("limit", "batch", "device", "precision", "threads", "progress")
    chosen = EvaluationOptions.of(options).merged("reproduce", keywords, uses=uses)
    known = experiments()
    if table not in known:
        raise unknown_name("table", table, known)
    experiment = known[table]
    for row in rows:
        if not experiment.rows_named(row):
            raise unknown_name("row", row, [entry.name for entry in experiment.rows])
    for name in data_sets:
        if name not in experiment.data_sets:
            raise missing_data_set(name, [experiment])
    experiment = experiment.only(list(rows)) if rows else experiment
    roots = root if isinstance(root, Mapping) else {} if root is None else {"": root}
    how = ReproduceOptions(engine=engine, **{name: getattr(chosen, name) for name in uses if name != "limit"})
    changed = tuple(sorted((settings or {}).items()))
    choice = Selection(
        data_sets=tuple(data_sets),
        backbone=backbone,
        second=second,
        offline=offline,
        settings=changed,
        limit=chosen.limit,
    )
    result = run(experiment, choice, out=out, roots={name: Path(place) for name, place in roots.items()}, how=how)
    return _table_cells(experiment, choice, result)


def _table_cells(experiment: Experiment, choice: Selection, result: Reproduction) -> pd.DataFrame:
    """A row for each chosen cell of a table, as `reproduce` describes them."""
    import pandas as pd

    from attention_outliers.papers.side_by_side import is_comparable

    cells: list[dict[str, Any]] = []
    for place in experiment.places():
        if not choice.wants(place):
            continue
        where = (place.row.name, place.column.name)
        ours, printed = result.ours.get(where), place.printed
        comparable = ours is not None and printed is not None and is_comparable(choice, place.row)
        cells.append(
            {
                "row": place.row.name,
                "column": place.column.name,
                "ours": ours,
                "printed": printed,
                "difference": ours - printed if comparable else None,  # type: ignore[operator]
                "complete": ours is not None and where not in result.partly,
                "reason": result.reasons.get(where, ""),
            }
        )
    numbers = dict.fromkeys(("ours", "printed", "difference"), float)
    columns = ["row", "column", "ours", "printed", "difference", "complete", "reason"]
    return pd.DataFrame(cells, columns=columns).astype(numbers)
