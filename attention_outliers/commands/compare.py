"""`outliers compare`: which tokens are outliers, and do the detectors agree?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer
import xarray as xr
from rich.console import Console

from attention_outliers.commands.options import (
    BackboneSpec,
    Batch,
    Device,
    Images,
    Positions,
    Precision,
    SizeText,
    backbone_of,
    layers_of,
    numbers,
)
from attention_outliers.commands.output import first_images, tell_left_out, tell_note
from attention_outliers.commands.tables import as_rich
from attention_outliers.commands.words import Rows
from diagnostics import Backbone
from diagnostics.registry import split_specs

if TYPE_CHECKING:
    from diagnostics.studies.scoring import Run

DEFAULT = (
    "norm,relative-norm,norm-topk,massive,channel-peak,som,som-release,lof,lof-release,class-residual,"
    "received-attention,stripe,attention-rank1,singular-defect,mahalanobis,knn,random"
)
NOTHING = "none"
GAP = 2  # blanks behind a column of a table in the terminal
ARRANGEMENTS = {"scattered": False, "clustered": True}  # word -> whether planted outliers lie side by side


def compare(
    images: Images,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for tables (Parquet), scores (zarr) and figures (PNG, PDF).")
    ],
    backbone: BackboneSpec = "pocket",
    detectors: Annotated[
        str, typer.Option("--detectors", "-d", help="Which detectors; see `outliers list detectors`.")
    ] = DEFAULT,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Which layers, such as 8,11 or -2. All by default.")
    ] = None,
    thresholds: Annotated[int, typer.Option("--thresholds", min=2, help="Thresholds of each sweep.")] = 20,
    plant: Annotated[
        str | None,
        typer.Option(
            "--plant",
            help="Outliers with known places, put in at the first of the layers: how many, scattered or side by side, "
            "such as k=1,4,10, 'k=1,4,10,29,35 clustered', or 'k=10,35 scattered clustered' for both.",
        ),
    ] = None,
    truth_norm: Annotated[
        float | None,
        typer.Option("--truth-norm", help="Also judge against the patches whose norm is above this, such as 100."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Folder of label maps: tells where outliers sit and what purifying them does to AUC."
        ),
    ] = None,
    ignore: Annotated[str, typer.Option("--ignore", help="Labels that are no class, such as 255.")] = "255",
    background: Annotated[str, typer.Option("--background", help="Labels that are background, such as 0.")] = "0",
    stability: Annotated[
        bool,
        typer.Option(help="Are the same tokens marked after a shift, a flip, another size, JPEG? Five passes more."),
    ] = True,
    purify: Annotated[
        str,
        typer.Option(
            "--purify",
            help="Whose outliers are purified, by each of --purifiers: one detector or several, such as "
            "norm:threshold=100,lof-release; none leaves purifying out.",
        ),
    ] = "relative-norm",
    purifiers: Annotated[
        str, typer.Option("--purifiers", help="How to purify; see `outliers list purifiers`.")
    ] = "neighbor-mean,neighbor-median,image-mean,zero,shuffle,keep",
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            "-c",
            help="Names of classes, 'cat, dog, horse', for the zero-shot accuracy before and after purifying; needs "
            "--truth. A model without text tower takes the rows of its classifier that have these names.",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            help='Which of --classes each image shows: CSV of image,class or JSON {"a.jpg": "cat"}.',
        ),
    ] = None,
    rows: Rows = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the figures into OUT/figures.")] = True,
    maps: Annotated[int, typer.Option("--maps", min=0, help="Images whose score maps are drawn.")] = 3,
    size: SizeText = None,
    batch: Batch = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
) -> None:
    """Compare detectors of outliers: what each marks at which threshold, how far they agree, and who is right.

    One forward pass an image serves all detectors, layers and thresholds; planted outliers, --stability and --purify
    take passes of their own.

    Example: outliers compare photos/ -b timm:vit_base_patch16_224.dino --layers 8,11 --plant k=4,35 --out compared/

    Accuracy: outliers compare photos/ --classes "cat, dog" --truth shown.csv --out compared/, where shown.csv has a
    line for each image: a.jpg,cat
    """
    from diagnostics.studies.agreement import agreement_table
    from diagnostics.studies.location import patch_places, whereabouts_table
    from diagnostics.studies.scoring import prepared, ready_detectors, score_images
    from diagnostics.studies.stability import stability_table
    from diagnostics.studies.thresholds import threshold_table
    from diagnostics.studies.truth import truth_table

    specs, chosen = split_specs(detectors), layers_of(layers)
    if plant is not None:
        # Without quotes, `--plant k=4 clustered` leaves its second word among the images.
        loose = [word for word in images if word in ARRANGEMENTS and not Path(word).exists()]
        images = [image for image in images if image not in loose]
        plant = " ".join([plant, *loose])
    counts, arrangements = planted_of(plant)
    purify_specs = [] if purify.strip().lower() == NOTHING else split_specs(purify)
    no_class, no_object = numbers(ignore, "--ignore"), numbers(background, "--background")
    check_accuracy(classes, truth, rows, purify_specs)
    model = backbone_of(backbone, device, precision, positions)
    tell_note(model)
    # The norms that --truth-norm asks for come from the same pass.
    scored = list(dict.fromkeys([*specs, "norm"])) if truth_norm is not None else specs
    door = prepared(model, images, [*scored, *purify_specs], chosen, size, strict=False)
    check_door(door, counts, labels, truth_norm)
    purification: dict[str, Any] = {"purifiers": checked_purifiers(purifiers), "labels": labels, "ignore": no_class}
    purification |= accuracy_of(model, [image.name for image in door.listed], classes, truth, rows)
    run: dict[str, Any] = {"layers": door.layers, "size": size, "batch": batch, "progress": True}
    run["fitted"] = ready_detectors(model, door, {})
    out.mkdir(parents=True, exist_ok=True)

    tables: dict[str, pd.DataFrame] = {}

    def keep(name: str, table: pd.DataFrame) -> None:
        """Written as soon as it is there: what comes later may fail."""
        table.attrs = {"backbone": model.spec, "size": str(door.size)}
        table.to_parquet(out / f"{name}.parquet")
        tables[name] = table

    everything = score_images(model, images, scored, **run)
    scores = everything.sel(detector=specs)
    scores.to_zarr(out / "scores.zarr", mode="w", zarr_format=3, consolidated=False)
    places = patch_places(
        scores, images, patch_size=model.patch_size, labels=labels, background=no_object, ignore=no_class
    )
    keep("thresholds", threshold_table(scores, thresholds=thresholds, places=places))
    keep("agreement", agreement_table(scores))
    keep("seconds", scores["seconds"].to_series().rename_axis("detector").reset_index())
    keep("whereabouts", whereabouts_table(scores, places))
    if truth_norm is not None:
        keep("truth", truth_table(scores, everything["score"].sel(detector="norm", drop=True) > truth_norm))
    found: list[pd.DataFrame] = []
    for planted, table in planted_tables(model, images, specs, counts, arrangements, run):
        found.append(table)
        keep("planted", pd.concat(found, ignore_index=True))
        if plots:
            draw_planted(planted, table, out / "figures")
    if stability:
        keep("stability", stability_table(model, images, specs, **run))
    if purify_specs:
        keep("purification", purification_tables(model, images, purify_specs, purification | run))
    report(tables, out)
    if plots:
        draw(scores, tables, images, out / "figures", maps)
    tell_left_out(scores.attrs["left_out"] | places.attrs.get("not_labeled", {}))
    tell_findings(tables)


def check_door(door: Run, counts: list[int], labels: Path | None, truth_norm: float | None) -> None:
    """ValueError for what could not be done later: before the work, not after it."""
    least = min(layout.count for layout in door.layouts)
    if any(not 0 < count <= least for count in counts):
        raise ValueError(f"`--plant` should be from 1 to the {least} patches of the smallest image; got {counts}.")
    if labels is not None and not labels.is_dir():
        raise ValueError(f"`--labels` should be a folder of label maps; `{labels}` is none.")
    if truth_norm is not None and not isfinite(truth_norm):
        raise ValueError(f"`--truth-norm` should be a finite number, such as 100; got {truth_norm}.")


def checked_purifiers(text: str) -> list[str]:
    """The specs of purifiers in a text, once all of them could be built."""
    from diagnostics.purifiers import PURIFIERS

    specs = split_specs(text)
    for spec in specs:
        PURIFIERS.build(spec)
    return specs


def check_accuracy(classes: str | None, truth: Path | None, rows: Path | None, purify_specs: list[str]) -> None:
    """ValueError for options of accuracy that lack another."""
    if (classes is None) != (truth is None) or (rows is not None and classes is None):
        raise ValueError(
            "`--classes` and `--truth` go together, and `--rows` needs both: the names, and which of them each image "
            "shows."
        )
    if classes is not None and not purify_specs:
        raise ValueError(
            "`--classes` ask what purifying does to the accuracy, but `--purify none` purifies nothing; name whose "
            "outliers to purify, such as --purify relative-norm."
        )


def accuracy_of(
    model: Backbone, images: list[str], classes: str | None, truth: Path | None, rows: Path | None
) -> dict[str, Any]:
    """`classes` and `truth` of a purification table: names for the text tower, or rows of the classifier by name."""
    if classes is None or truth is None:
        return {}
    from diagnostics.images.image_classes import classes_of, read_classes
    from segment.text.class_head import rows_of
    from segment.text.vocabulary import Vocabulary

    names = list(Vocabulary.parse(classes).names)
    shown = classes_of(images, read_classes(truth), names)
    if type(model).encode_text is Backbone.encode_text:
        return {"classes": rows_of(names, len(model.class_head()), mapping=rows), "truth": shown}
    if rows is not None:
        raise ValueError(f"`--rows` choose among the rows of a classifier; `{model.spec}` has a text tower instead.")
    return {"classes": names, "truth": shown}


def planted_tables(
    model: Backbone,
    images: list[str],
    specs: list[str],
    counts: list[int],
    arrangements: list[bool],
    run: dict[str, Any],
) -> Iterator[tuple[xr.Dataset, pd.DataFrame]]:
    """Scores and the table against the truth, for each number of planted outliers and each arrangement."""
    from diagnostics.studies.planting import planted_scores
    from diagnostics.studies.truth import truth_table

    for clustered in arrangements:
        for plant, found in planted_scores(model, images, specs, counts, clustered=clustered, **run):
            table = truth_table(found, found["planted"])
            yield found, table.assign(planted=plant.count, clustered=clustered)


def purification_tables(
    model: Backbone, images: list[str], purify_specs: list[str], settings: dict[str, Any]
) -> pd.DataFrame:
    """What purifying does, for each detector whose outliers are purified."""
    from diagnostics.studies.purification import purification_table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left out is told at the end, for all tables
        tables = [
            purification_table(model, images, detector=spec, **settings).assign(detector=spec)
            for spec in dict.fromkeys(purify_specs)
        ]
    return pd.concat(tables, ignore_index=True)


def draw_planted(scores: xr.Dataset, table: pd.DataFrame, folder: Path) -> None:
    """Writes the ROC against planted outliers."""
    from figures.figure_files import write_figures
    from figures.tables.compare_report import planted_figures

    count, clustered = int(table["planted"].iloc[0]), bool(table["clustered"].iloc[0])
    write_figures(planted_figures(scores, count=count, clustered=clustered), folder, source=scores.attrs["backbone"])


def draw(scores: xr.Dataset, tables: dict[str, pd.DataFrame], images: list[str], folder: Path, maps: int) -> None:
    """Writes the figures of a comparison as PNG and PDF."""
    from figures.figure_files import write_figures
    from figures.tables.compare_report import compare_figures

    shown = first_images(scores, images, maps)
    figures = compare_figures(scores, tables, images=shown, maps_for=maps)
    write_figures(figures, folder, source=scores.attrs["backbone"])
    Console().print(f"figures: {folder}", markup=False, highlight=False, soft_wrap=True)


def planted_of(text: str | None) -> tuple[list[int], list[bool]]:
    """`k=1,4,10 clustered` -> ([1, 4, 10], [True]): how many, and whether clustered; nothing for None."""
    if text is None:
        return [], []
    words = text.replace(" ,", ",").replace(", ", ",").split()
    arrangements = [clustered for word, clustered in ARRANGEMENTS.items() if word in words]
    counts = [word.removeprefix("k=") for word in words if word not in ARRANGEMENTS]
    try:
        (numbers,) = counts
        return [int(number) for number in numbers.split(",")], arrangements or [False]
    except ValueError:
        raise ValueError(
            f"`--plant` should read k=1,4,10, 'k=1,4,10 clustered' or 'k=1,4,10 scattered clustered'; got `{text}`."
        ) from None


def tell_findings(tables: dict[str, pd.DataFrame]) -> None:
    """Prints what the tables say, in sentences."""
    from diagnostics.studies.findings import findings

    for sentence in findings(tables):
        Console().print(f"· {sentence}", markup=False, highlight=False, soft_wrap=True)


def report(tables: dict[str, pd.DataFrame], out: Path) -> None:
    """Prints each detector's own threshold by layer, how it stands against what is known, and what purifying does."""
    own = tables["thresholds"][tables["thresholds"]["own"]]
    tokens = own.pivot_table("tokens", "detector", "layer", sort=False)
    tell(tokens, "tokens marked by the own threshold, mean of an image, by layer", digits=1)
    if "truth" in tables:
        tell(judged_by(tables["truth"], ["layer"]), "ROC-AUC against patches of large norm, by layer")
    if "planted" in tables:
        for clustered, table in tables["planted"].groupby("clustered"):
            how = "side by side" if clustered else "scattered"
            tell(judged_by(table, ["planted", "layer"]), f"ROC-AUC against planted outliers, {how}")
    if "stability" in tables:
        tell(stable_by(tables["stability"]), "same tokens after a change, Jaccard, mean over layers")
    if "purification" in tables:
        for spec, table in tables["purification"].groupby("detector", sort=False):
            for title, changed in purified_by(table).items():
                tell(changed, f"{title}, purifying what {spec} marks, by layer")
    Console().print(f"tables: {out}/*.parquet", markup=False, highlight=False, soft_wrap=True)


def tell(frame: pd.DataFrame, title: str, *, digits: int = 3) -> None:
    """Prints a table below its title, in as many pieces as the terminal needs to show every number."""
    console = Console()
    console.print(title, style="italic", markup=False, highlight=False, soft_wrap=True)
    names = max(map(len, [str(frame.index.name or ""), *map(str, frame.index)])) + GAP
    room, start = console.width - names, 0
    widths = [column_width(frame.iloc[:, place], digits) for place in range(frame.shape[1])]
    while start < len(widths):
        end = start + 1
        while end < len(widths) and sum(widths[start : end + 1]) <= room:
            end += 1
        console.print(as_rich(frame.iloc[:, start:end], digits=digits))
        start = end


def column_width(column: pd.Series[float], digits: int) -> int:
    """Characters that a column of numbers takes; a heading may be broken between its words."""
    heading = max(map(len, str(column.name).split()))
    return max(heading, *(len(f"{value:.{digits}f}") for value in column.dropna()), 1) + GAP


def judged_by(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """AUC of each detector, a column for each layer, and for each number that was planted."""
    auc = table.pivot_table("auc", "detector", keys, sort=False, dropna=False)
    if len(keys) > 1:
        auc.columns = [f"k={at[0]} layer\u00a0{at[1]}" for at in auc.columns.tolist()]
    return auc.reindex(table["detector"].unique()).rename_axis("detector")


def stable_by(table: pd.DataFrame) -> pd.DataFrame:
    """Jaccard of each detector after each change; after a shift also where the grid stays."""
    means = table.pivot_table("jaccard", "detector", "change", sort=False, dropna=False)
    shifted = table[table["change"] == "shift"].groupby("detector")["jaccard_grid"].mean()
    return means.assign(**{"shift, same grid place": shifted}) if len(shifted) else means


def purified_by(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Title -> a number of each purifier at each layer: change of AUC where there are labels, class token, accuracy."""
    said = {
        "change of same-class AUC": ("in place", "delta_auc"),
        "change of same-class AUC at the last layer": ("propagated", "delta_auc_last"),
        "cosine of the class token": ("propagated", "class_cosine"),
        "zero-shot accuracy": ("propagated", "accuracy_after"),
    }
    found: dict[str, pd.DataFrame] = {}
    for title, (mode, column) in said.items():
        here = table[(table["mode"] == mode) & table[column].notna()]
        if here.empty:
            continue
        numbers = here.pivot_table(column, "purifier", "layer", sort=False)
        before = here["accuracy_before"].iloc[0]
        found[f"{title} ({before:.3f} before)" if column == "accuracy_after" else title] = numbers
    return found
