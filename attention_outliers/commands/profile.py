"""`outliers profile`: does this backbone have outliers, from which layer, how many, and what do they do?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.fit import check_layers
from attention_outliers.commands.options import (
    Device,
    EditSpecs,
    IgnoreLabels,
    Labels,
    LayersText,
    Model,
    Passes,
    Positions,
    Precision,
    check_inputs,
    keywords,
    layers_of,
    numbers,
)
from attention_outliers.commands.output import Output
from diagnostics.local_path import local_path

if TYPE_CHECKING:
    from diagnostics.studies.profile import Profile

MOST_SHOWN = 6  # images that are drawn

ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Images: files, folders (searched with all folders below), or globs such as 'photos/*.jpg'."),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for profile*.json, the page, table and figures.")]
DetectorOption = Annotated[
    str,
    typer.Option("--detector", "-d", autocompletion=complete.detectors, help="Whose scores the line is looked for in."),
]
AlphaOption = Annotated[
    float, typer.Option("--alpha", help="How often one population may have a line, over all layers together.")
]
ExamineOption = Annotated[
    int | None,
    typer.Option(
        "--examine",
        min=0,
        help="Images that are looked into once more where there are outliers: channels, hidden units, values, effect. "
        "By default one in six, at least 4.",
    ),
]
BackgroundOption = Annotated[str, typer.Option("--background", help="Labels that are background, such as 0.")]
FromOption = Annotated[
    list[Path] | None,
    typer.Option("--from", help="A stored run of `outliers probe`, in place of images and backbone; may come again."),
]
StoreOption = Annotated[bool, typer.Option("--store", help="Keep the measurements as OUT/run*.zarr, for --from.")]


@dataclass(frozen=True, kw_only=True)
class Models:
    """The backbones, and where they run."""

    panel: ClassVar[str] = "Model"

    backbone: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            "-b",
            autocompletion=complete.backbones,
            help="The model, `pocket` by default; give the option again for more. See `outliers list backbones`.",
        ),
    ] = None
    edit: EditSpecs = None
    device: Device = "auto"
    precision: Precision = "fp32"
    positions: Positions = None


def profile(
    images: ImagesArgument = None,
    *,
    out: OutOption = Path("results/profile"),
    detector: DetectorOption = "relative-norm",
    alpha: AlphaOption = 0.01,
    layers: LayersText = None,
    labels: Labels = None,
    ignore: IgnoreLabels = "255",
    background: BackgroundOption = "0",
    examine: ExamineOption = None,
    stored: FromOption = None,
    store: StoreOption = False,
    models: Models,
    passes: Passes,
    show: Output,
) -> None:
    """Profile backbones: are there outliers, from which layer, how many, what are they, and what do they do?

    In each layer a line is drawn where the scores of all images have a gap, and none where they have none.
    OUT/profile*.json is what --profile and detector=profile(FILE) read, OUT/profile.html a page with a card for each
    backbone, OUT/profile.parquet the table of their layers. A backbone that fails is named; the others finish.

    Example: outliers profile photos/ --backbone timm:vit_base_patch16_224.dino --backbone pocket --out profiled/
    """
    if bool(images) == bool(stored):
        raise ValueError("give either images, or --from RUN for a stored run of `outliers probe`.")
    check_inputs(images or (), labels=labels)
    options = passes.options(show, layers_of(layers))  # a wrong size is refused before anything is loaded
    settings: dict[str, Any] = {
        "detector": detector,
        "alpha": alpha,
        "labels": labels,
        "ignore": numbers(ignore, "--ignore"),
        "background": numbers(background, "--background"),
        "examine": examine,
        **keywords(options, "layers", "size", "batch", "strict", "progress"),
    }
    out = local_path(out)
    if stored:
        profiles, failed = _from_runs(stored, detector, alpha)
    else:
        profiles, failed = _from_images(images or [], models, settings, out if store else None, show)
    _write(profiles, failed, images or [], out, show)
    if failed:
        raise typer.Exit(1)


def _from_images(
    images: list[str], models: Models, settings: dict[str, Any], store: Path | None, show: Output
) -> tuple[dict[str, Profile], dict[str, str]]:
    """Profiles by spec, and what failed with its reason; ValueError where all of them failed."""
    from attention_outliers.commands.main import explained
    from diagnostics.studies.profile import profile as run

    profiles: dict[str, Profile] = {}
    failed: dict[str, str] = {}
    specs = list(dict.fromkeys(models.backbone or ["pocket"]))
    place_of = keywords(models, "edit", "device", "precision", "positions")
    for place, spec in enumerate(specs):
        try:
            check_layers(spec, settings["layers"])
            backbone = Model(backbone=spec, **place_of).load(show)
            show.padding(settings["size"], backbone)
            kept = None if store is None else store / ("run.zarr" if len(specs) == 1 else f"run-{place + 1}.zarr")
            profiles[spec] = run(backbone, images, out=kept, **settings)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            if len(specs) == 1:
                raise
            failed[spec] = explained(error)
        else:
            show.result(f"{_short(spec)}: {profiles[spec].verdict}")
    if not profiles:
        raise ValueError("; ".join(f"{spec}: {reason}" for spec, reason in failed.items()))
    return profiles, failed


def _from_runs(stored: list[Path], detector: str, alpha: float) -> tuple[dict[str, Profile], dict[str, str]]:
    """Profiles of stored runs by the backbone's spec; the same backbone twice by the run as well."""
    from diagnostics.gap_line import GapLine
    from diagnostics.studies.profile import profile_run
    from diagnostics.studies.store import open_run

    profiles: dict[str, Profile] = {}
    for path in stored:
        made = profile_run(open_run(path), detector=detector, rule=GapLine(alpha=alpha))
        spec = made.facts["backbone"]
        profiles[spec if spec not in profiles else f"{spec} ({path})"] = made
    return profiles, {}


def _write(profiles: dict[str, Profile], failed: dict[str, str], images: list[str], out: Path, show: Output) -> None:
    """Files and tables of the profiles."""
    from attention_outliers.profile_page import layer_rows, sentences, summary_table, write_profile_page
    from figures.curves.probe_report import safe_name

    out.mkdir(parents=True, exist_ok=True)
    taken: list[str] = []
    for spec, made in profiles.items():
        taken.append(safe_name(_short(spec), taken))
        made.write(out / ("profile.json" if len(profiles) + len(failed) == 1 else f"profile-{taken[-1]}.json"))
        if len(profiles) == 1:
            for line in sentences(made.facts):
                show.result(line)
    layer_rows(profiles).to_parquet(out / "profile.parquet", index=False)
    page = write_profile_page(profiles, out, pixels=_pixels(profiles, images), failed=failed)
    summary = summary_table({_short(spec): made for spec, made in profiles.items()}, failed)
    show.table("backbones", summary.set_index("backbone"))
    show.record["profiles"] = [made.facts for made in profiles.values()]
    show.record["failed"] = failed
    for spec, reason in failed.items():
        show.result(f"failed: {_short(spec)}: {reason}")
    show.path("profiles", out / "profile*.json")
    show.path("page", page)


def _pixels(profiles: dict[str, Profile], images: list[str]) -> dict[str, Any]:
    """The images that are drawn, by name."""
    if not images:
        return {}
    import numpy as np

    from diagnostics import image_paths
    from diagnostics.images import open_image

    paths = image_paths(images)
    names: dict[str, None] = {}
    for made in profiles.values():
        known = made.examined.names if made.examined is not None else made.scores["image"].values  # type: ignore[index]
        names |= dict.fromkeys(str(name) for name in list(known)[:MOST_SHOWN])
    return {name: np.asarray(open_image(paths[name])) for name in names if name in paths}


def _short(spec: str) -> str:
    from attention_outliers.commands.options import short_spec

    return short_spec(spec)
