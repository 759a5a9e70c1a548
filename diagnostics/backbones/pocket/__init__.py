"""`pocket`: the small CLIP inside the package, for a machine without a network."""

from __future__ import annotations

from pathlib import Path

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.pocket.architecture import build_model, pocket_backbone
from diagnostics.backbones.pocket.planted import planted_patches, write_outliers
from diagnostics.backbones.weights import fill, read_weights
from diagnostics.registry import unknown_name

__all__ = ["PLANTED", "WEIGHTS", "load_pocket", "planted_patches", "planted_unit"]

FOLDER = Path(__file__).parent
WEIGHTS, PLANTED = FOLDER / "weights.safetensors", FOLDER / "planted.safetensors"
NOTE = (
    "pocket is a small CLIP trained on drawn scenes of sixteen textures. It shows how the tools work; a number from it "
    "says nothing about CLIP."
)
PLANTED_NOTE = f"{NOTE} Its outliers were written into the weights (docs/pocket.md)."


def load_pocket(argument: str) -> Backbone:
    """The small trained CLIP inside the package: pocket, or pocket:planted, with outliers written into its weights

    Trained by this project from nothing on drawn scenes of ten kinds and six backgrounds (segment.datasets.shapes) and
    their captions. It knows no other words.
    """
    if argument not in ("", "planted"):
        raise unknown_name("variant of backbone `pocket`", argument, ["planted"])
    model = build_model()
    fill(model, read_weights(WEIGHTS), spec="pocket", instead="The package is damaged: install it again.")
    if argument:
        write_outliers(model.visual, read_weights(PLANTED))
        return pocket_backbone(model, spec="pocket:planted", note=PLANTED_NOTE)
    return pocket_backbone(model, note=NOTE)


def planted_unit() -> tuple[int, int]:
    """The layer and the number of the hidden unit that writes the outliers of `pocket:planted`.

    Returns
    -------
    (int, int)
        Layer 1…L, and number of the hidden unit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> ao.planted_unit()
    (6, 358)
    """
    layer, number = read_weights(PLANTED)["unit"].tolist()
    return layer, number
