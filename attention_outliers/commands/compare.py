"""`outliers compare`: which tokens are outliers, and do the detectors agree?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.compare_options import Known, Purify, planted_of, with_loose_words
from attention_outliers.commands.fit import check_fit, check_layers
from attention_outliers.commands.options import (
    Batch,
    IgnoreLabels,
    Images,
    Labels,
    LayersText,
    Model,
    ProfileFile,
    SizeText,
    check_inputs,
    check_outside,
    check_parts,
    layers_of,
    numbers,
    profile_spec,
    specs_of,
)
from attention_outliers.commands.output import Output
from diagnostics.local_path import local_path

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = (
    "norm,relative-norm,norm-topk,massive,channel-peak,som,som-release,lof,lof-release,class-residual,"
    "received-attention,stripe,attention-rank1,singular-defect,mahalanobis,knn,random"
)


OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for tables (Parquet), scores (zarr) and figures (PNG, PDF).")
]
DetectorsOption = Annotated[
    str,
    typer.Option(
        "--detectors",
        "-d",
        autocompletion=complete.detectors,
        help="Which detectors; see `outliers list detectors`.",
    ),
]
ThresholdsOption = Annotated[int, typer.Option("--thresholds", min=2, help="Thresholds of each sweep.")]
BackgroundOption = Annotated[str, typer.Option("--background", help="Labels that are background, such as 0.")]
StabilityOption = Annotated[
    bool,
    typer.Option(help="Are the same tokens marked after a shift, a flip, another size, JPEG? Five passes more."),
]
PlotsOption = Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the figures into OUT/figures.")]
MapsOption = Annotated[int, typer.Option("--maps", min=0, help="Images whose score maps are drawn.")]


def compare(
    images: Images,
    *,
    out: OutOption,
    detectors: DetectorsOption = DEFAULT,
    profile: ProfileFile = None,
    layers: LayersText = None,
    thresholds: ThresholdsOption = 20,
    labels: Labels = None,
    ignore: IgnoreLabels = "255",
    background: BackgroundOption = "0",
    stability: StabilityOption = True,
    plots: PlotsOption = True,
    maps: MapsOption = 3,
    size: SizeText = None,
    batch: Batch = 8,
    known: Known,
    purify: Purify,
    model: Model,
    show: Output,
) -> None:
    """Compare detectors of outliers: what each marks at which threshold, how far they agree, and who is right.

    One forward pass an image serves all detectors, layers and thresholds; planted outliers, --stability and --purify
    take passes of their own. With --labels: where outliers lie, and what purifying does to the AUC of same-class pairs.

    Example: outliers compare photos/ -b timm:vit_base_patch16_224.dino --layers 8,11 --plant k=4,35 --out compared/

    Accuracy: outliers compare photos/ --classes "cat, dog" --truth shown.csv --out compared/, where shown.csv has a
    line for each image: a.jpg,cat
    """
    images, plant = with_loose_words(images, known.plant)
    counts, arrangements = planted_of(plant)
    check_outside(images, out=out)
    check_inputs(images, labels=labels, truth=purify.truth, class_embeddings=purify.embeddings)
    settings: dict[str, Any] = {
        "planted": counts,
        "clustered": arrangements,
        "purify": purify.detectors(),
        "ignore": numbers(ignore, "--ignore"),
        "background": numbers(background, "--background"),
        "labels": labels,
        "thresholds": thresholds,
        "stability": stability,
        "truth_norm": known.truth_norm,
    }
    out, chosen, purifiers = local_path(out), specs_of(detectors), specs_of(purify.purifiers)
    chosen += [] if profile is None else [profile_spec(profile)]
    check_parts(detectors=[*chosen, *settings["purify"]], purifiers=purifiers)
    from attention_outliers.comparison_files import write_figures, write_tables
    from diagnostics.options import RunOptions
    from diagnostics.studies.detector_study import DetectorStudy, Questions
    from diagnostics.studies.scoring import named_detectors

    options = RunOptions(layers=layers_of(layers), size=size, batch=batch, progress=show.progress)
    check_layers(model.backbone, options.layers)
    check_fit(model, images, size, list(named_detectors(chosen).values()))
    backbone = model.load(show)
    show.padding(options.size, backbone)
    questions = Questions(**settings, purifiers=purifiers, accuracy=purify.accuracy(backbone, images))
    study = DetectorStudy(backbone, images, chosen, questions, options=options)
    tables = write_tables(study, out, planted_figures=plots)
    _print(tables, show)
    show.path("tables", f"{out}/*.parquet")
    if plots:
        write_figures(study, tables, out / "figures", maps)
        show.path("figures", out / "figures")
    show.left_out(study.left_out)
    _print_findings(tables, show)


def _print(tables: dict[str, pd.DataFrame], show: Output) -> None:
    """Short tables; JSON has them by their titles."""
    from diagnostics.studies.short_tables import short_tables

    for title, frame in short_tables(tables).items():
        show.table(title, frame, title, digits=1 if title.startswith("tokens") else 3)


def _print_findings(tables: dict[str, pd.DataFrame], show: Output) -> None:
    """What the tables show, in sentences."""
    from diagnostics.studies.findings import findings

    sentences = findings(tables)
    show.record["findings"] = sentences
    for sentence in sentences:
        show.result(f"· {sentence}")
