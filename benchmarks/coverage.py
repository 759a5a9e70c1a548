"""`python -m benchmarks.coverage`: which names of timm and open_clip run on our blocks, and why the others do not.

Every name is built on the meta device, without weights, and given to the checks that stand before any download. The
table is printed, and written into docs/backbones.md between its marks with --write.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

PAGE = Path(__file__).resolve().parents[1] / "docs" / "backbones.md"
START, END = "<!-- coverage begins -->", "<!-- coverage ends -->"

# timm's modules of vision transformers with one grid of tokens, and of those that are taken for such; by the family's
# name. Swin, mixtures with convolutions in every stage and towers of language models are no part of it.
FAMILIES = {
    "plain ViT, DeiT": ("vision_transformer", "deit"),
    "`Eva`: DINOv3, EVA, EVA-02, Perception Encoder, rope ViTs": ("eva",),
    "relative bias: BEiT, BEiT-2, relpos ViTs": ("beit", "vision_transformer_relpos"),
    "NaFlex": ("naflexvit",),
    "stems of convolutions: hybrids, ViTamin": ("vision_transformer_hybrid", "vitamin"),
    "SAM, SAM 2, Hiera": ("vision_transformer_sam", "hieradet_sam2", "hiera"),
}


class Outcome(NamedTuple):
    """One name: whether it runs, and the reason if it does not."""

    name: str
    reason: str = ""


class Row(NamedTuple):
    """A family: how many of its names run, and the reasons of the others with their counts."""

    family: str
    accepted: int
    names: int
    reasons: str


def timm_names(family: str) -> list[str]:
    """timm's names of a family."""
    import timm

    return [name for module in FAMILIES[family] for name in timm.list_models(module=module)]


def timm_outcome(name: str) -> Outcome:
    """Whether a name of timm runs."""
    import timm

    from diagnostics.backbones.timm_tower import TimmTower

    def checked() -> None:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False)
        TimmTower(model, name)

    return _outcome(name, checked)


def open_clip_outcome(name: str) -> Outcome:
    """Whether a name of open_clip runs, its text tower built with it; nothing is fetched."""
    import open_clip

    from diagnostics.backbones.openclip import check_config

    return _outcome(name, lambda: check_config(open_clip.get_model_config(name), name))


def image_tower_outcome(name: str) -> Outcome:
    """Whether the image tower of an open_clip name runs, whatever its text tower needs."""
    import open_clip
    from open_clip.model import _build_vision_tower

    from diagnostics.backbones.openclip import check_tower

    def checked() -> None:
        config: dict[str, Any] = open_clip.get_model_config(name)
        with torch.device("meta"):
            tower = _build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))
        check_tower(tower, name)

    return _outcome(name, checked)


def _outcome(name: str, check: Callable[[], None]) -> Outcome:
    try:
        check()
    except Exception as error:  # other libraries fail in many ways while a model is built
        return Outcome(name, _short(name, error))
    return Outcome(name)


def _short(name: str, error: Exception) -> str:
    """A reason without the name of the model and what stands behind it."""
    text = str(error).replace(f"`{name}` ", "")
    named = re.search(r"its [\w -]+ is (`\w+`): ", text) or re.search(r"an image tower (`\w+`)", text)
    kind = named[1] if named else ""
    text = re.sub(r"^can't run: (its [\w -]+ is `\w+`: )?|^has an image tower `\w+`, ", "", text)
    text = re.split(r"\. |; an unknown|; nearest| Text towers|, so that", text)[0].rstrip(".")
    return f"{kind}: {text}" if kind and kind not in text else text


def without_transformers() -> Any:
    """Within it, open_clip builds as on a machine where `transformers` is not installed."""
    import open_clip.hf_model

    return patch.object(open_clip.hf_model, "transformers", None)


def row_of(family: str, outcomes: list[Outcome]) -> Row:
    """The row of a family."""
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return Row(family, sum(not outcome.reason for outcome in outcomes), len(outcomes), listed)


def rows() -> Iterator[Row]:
    """All rows, timm's families, their sum, and open_clip."""
    total: list[Outcome] = []
    for family in FAMILIES:
        outcomes = [timm_outcome(name) for name in timm_names(family)]
        total += outcomes
        yield row_of(f"timm, {family}", outcomes)
    yield row_of("**timm, all**", total)._replace(reasons="")
    import open_clip

    names = open_clip.list_models()
    yield row_of("**open_clip, all**, image towers", [image_tower_outcome(name) for name in names])
    with without_transformers():
        both = row_of("**open_clip, all**, both towers without `transformers`", map_open_clip(names))
    yield both._replace(reasons="as above, and text towers of `transformers`")


def map_open_clip(names: list[str]) -> list[Outcome]:
    """Whether both towers of each name run."""
    return [open_clip_outcome(name) for name in names]


def table(listed: list[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| names | run | of | why the others do not |", "| --- | ---: | ---: | --- |"]
    return "\n".join(
        [*lines, *(f"| {row.family} | {row.accepted} | {row.names} | {row.reasons or '–'} |" for row in listed)]
    )


def write(text: str, page: Path = PAGE) -> None:
    """Puts the table between the marks of the page. ValueError where the page lacks them."""
    content = page.read_text(encoding="utf-8")
    if content.count(START) != 1 or content.count(END) != 1:
        raise ValueError(f"{page} should have `{START}` and `{END}` once each.")
    before, after = content.split(START)[0], content.split(END)[1]
    page.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"also write the table into {PAGE.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import open_clip
    import timm

    made = [*rows()]
    text = f"timm {timm.__version__}, open_clip {open_clip.__version__}.\n\n{table(made)}"
    print(text)
    if options.write:
        write(text)


if __name__ == "__main__":
    sys.exit(main())
