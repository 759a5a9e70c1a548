"""Profiles of several backbones on one page: a table, figures side by side, and a card for each backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diagnostics.studies.profile import Profile
from figures.curves.probe_report import safe_name
from figures.curves.profile_curves import profile_layer_curves, score_histograms
from figures.figure_files import write_figures
from figures.lettering import backbone_names
from figures.maps.profile_maps import profile_maps
from figures.view.text_page import Section, write_page

# Of the heads' outputs, from which on it matters whose part is taken out. Our choice.
MATTERS = 0.05
LAYER_COLUMNS = {
    "answer": "gap?",
    "threshold": "line",
    "outliers_per_image": "outliers an image",
    "typical": "typical outlier",
    "width": "gap (tail scales)",
    "sink_answer": "sinks?",
    "sinks_per_image": "sinks an image",
    "outlier_share": "attention to outliers",
    "by_chance": "by chance",
}


def summary_table(profiles: Mapping[str, Profile], failed: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A row for each backbone: verdict, layers, how many, and how large; those that failed."""
    rows = [
        {
            "backbone": name,
            "verdict": profile.verdict.partition(":")[0],
            "first layer": profile.first_layer,
            "outliers an image": profile.facts["outliers_per_image"],
            "typical": profile.facts["typical"],
            "their attention": _attention(profile.facts),
            "images": profile.facts["images"],
        }
        for name, profile in profiles.items()
    ]
    rows += [{"backbone": name, "verdict": "failed"} for name in failed or {}]
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else None)
    return frame.astype({"first layer": "Int64"}) if "first layer" in frame else frame


def _attention(facts: Mapping[str, Any]) -> float | None:
    """The largest share of the patches' attention that outliers or sinks receive at a layer."""
    shares = [share for share in (facts.get("attention"), facts.get("sink_share")) if share is not None]
    return max(shares, default=None)


def layer_rows(profiles: Mapping[str, Profile]) -> pd.DataFrame:
    """All layers of all backbones in one table."""
    tables = [profile.layers.reset_index().assign(backbone=profile.facts["backbone"]) for profile in profiles.values()]
    frame = pd.concat(tables, ignore_index=True)
    return frame[["backbone", *(name for name in frame if name != "backbone")]]


def write_profile_page(
    profiles: Mapping[str, Profile],
    out: Path,
    *,
    pixels: Mapping[str, np.ndarray] | None = None,
    failed: Mapping[str, str] | None = None,
) -> Path:
    """Writes OUT/profile.html and OUT/figures; `profiles` by the backbones' specs, `pixels` of images by name."""
    shown = {name: profiles[spec] for spec, name in backbone_names(profiles).items()}
    folder = out / "figures"
    write_figures(
        [("histograms", score_histograms(shown)), ("layers", profile_layer_curves(shown))],
        folder,
        source=", ".join(shown),
    )
    sections = [
        Section(
            title="Side by side",
            text=[
                "Scores of all patches of all images. Red: above the line, which is drawn only where they have a gap."
            ],
            tables=[summary_table(shown, failed).set_index("backbone")],
            images=[
                (folder / "histograms.png", "histograms of the scores of each backbone with their line"),
                (folder / "layers.png", "largest score and attention drawn, layer by layer"),
            ],
        )
    ]
    taken: list[str] = []
    for name, profile in shown.items():
        taken.append(safe_name(name, taken))
        stem = f"maps_{taken[-1]}"
        write_figures([(stem, profile_maps(profile, pixels))], folder, source=name)
        sections.append(_card(name, profile, folder / f"{stem}.png"))
    page = out / "profile.html"
    count = max(profile.facts["images"] for profile in shown.values())
    intro = [f"{len(shown)} backbone{'s' * (len(shown) != 1)}, {count} images."]
    intro += [f"{name}: failed. {reason}" for name, reason in (failed or {}).items()]
    write_page(page, "Profile: attention outliers", intro, sections)
    return page


def _card(name: str, profile: Profile, maps: Path) -> Section:
    """One backbone: what was found in words, its layers, and maps of a few images."""
    layers = profile.layers
    columns = [column for column in LAYER_COLUMNS if column in layers]
    tables = [layers[columns].rename(columns=LAYER_COLUMNS)]
    for key, order in (("channels", "channel"), ("units", "unit"), ("values", "layer"), ("effect", "layer")):
        if profile.facts.get(key):
            tables.append(pd.DataFrame(profile.facts[key]).set_index(order))
    return Section(
        title=name,
        text=[profile.verdict + ".", *sentences(profile.facts)],
        tables=tables,
        images=[(maps, f"maps of a few images of {name}: scores with marked patches, and features as colors")],
    )


def sentences(facts: Mapping[str, Any]) -> list[str]:
    """What the outliers are and do, in words, as far as it was measured."""
    lines = [line for write in (_places, _background, _carriers, _use, _effect) if (line := write(facts))]
    if facts.get("missing"):
        lines.append(f"Not measured: {'; '.join(facts['missing'])}.")
    return lines


def _places(facts: Mapping[str, Any]) -> str:
    places = facts.get("places")
    if not places:
        return ""
    text = (
        f"Where: {_percent(places['border'])} lie at the border ({_percent(places['border_by_chance'])} by chance), "
        f"{_percent(places['corner'])} near a corner ({_percent(places['corner_by_chance'])})."
    )
    if places["fixed"] is not None and places["fixed_by_chance"] is not None:
        word = "the same in different images" if places["fixed"] > 0.5 else "different from image to image"
        text += f" Their places are {word}: two images share {_percent(places['fixed'])} of them"
        text += f" ({_percent(places['fixed_by_chance'])} by chance)."
    return text


def _background(facts: Mapping[str, Any]) -> str:
    rows = facts.get("background") or []
    row = next((row for row in rows if row["layer"] == facts["clearest_layer"]), None)
    if row is None or row["background"] is None:
        return ""
    text = f"On background: {_percent(row['background'])} of the outliers, {_percent(row['background_of_all'])} of all "
    text += f"patches (layer {row['layer']})."
    if row["correlation"] is not None:
        text += f" Number of outliers against an image's share of background: Spearman {row['correlation']:.2f} "
        text += f"(p = {row['p']:.2g})."
    return text


def _carriers(facts: Mapping[str, Any]) -> str:
    if not facts.get("channels"):
        return ""
    channels = [row for row in facts["channels"] if row["share"] >= 0.05]
    text = "Carried by channel " + ", ".join(f"{row['channel']} ({_percent(row['share'])})" for row in channels)
    units = [row for row in facts.get("units", []) if row["share"] >= 0.05]
    if units:
        text += f"; written in block {units[0]['layer']} by hidden unit "
        text += ", ".join(f"{row['unit']} ({_percent(row['share'])})" for row in units)
    return f"{text}."


def _use(facts: Mapping[str, Any]) -> str:
    rows = facts.get("values") or []
    if not rows:
        return ""
    row = max(rows, key=lambda row: row["attention"])
    return (
        f"At layer {row['layer']} they receive {_percent(row['attention'])} of the patches' attention "
        f"({_percent(row['by_chance'])} by chance), with values {row['value_norm']:.2f} times as long as others: "
        f"{_percent(row['weighted'])} weighted by values. Of the heads' outputs {_percent(row['rank_one'])} lie along "
        f"one direction; without the outliers' part {_percent(row['rank_one_without'])}, so the outliers "
        f"{'are' if row['rank_one'] > row['rank_one_without'] + MATTERS else 'are not'} what makes them alike."
    )


def _effect(facts: Mapping[str, Any]) -> str:
    rows = [row for row in facts.get("effect") or [] if row["k"] == 0 and row["layer"] == facts["first_layer"]]
    parts = []
    for row in rows:
        if row["what"] == "same first class":
            parts.append(
                f"the first class stays in {_percent(1 + row['outliers'])} of the images (random patches: "
                f"{_percent(1 + row['random'])})"
            )
            continue
        interval = "" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
        parts.append(f"{row['what']} {row['difference']:+.3f}{interval}")
    if not parts:
        return ""
    count = rows[0]["images"]
    text = f"Purified at layer {facts['first_layer']}, difference from as many random patches, on {count} "
    text += f"image{'s' * (count != 1)}: {'; '.join(parts)}"
    return f"{text} (95 % intervals over images)." if rows[0]["low"] is not None else f"{text}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
