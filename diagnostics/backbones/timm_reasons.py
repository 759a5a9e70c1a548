"""Why a timm model can't run: the true reason, and what works instead."""

from __future__ import annotations

RUNS = (
    "What runs: timm's VisionTransformer and its kin, Eva, Beit, VisionTransformerRelPos and NaFlexVit (augreg, DeiT, "
    "DINO, DINOv2, DINOv3, MAE, CLIP, SigLIP, AIMv2, EVA, Perception Encoder, BEiT, ViTamin …), for example "
    "`timm:vit_base_patch16_224.dino`"
)
WINDOWS = "most of its blocks attend within windows, not among all tokens, so that no attention of all tokens exists"
SHRINKS = "its grid of tokens shrinks between stages, so that no patch is the same token in all layers"
CONVOLUTIONAL = "it is a convolutional network: it has no tokens"

# Why a class that people do try is refused, and what is nearest to it. A class that is not named here is refused as
# well, as unknown.
REASONS: dict[str, tuple[str, str]] = {
    "VisionTransformerSAM": (WINDOWS, "vit_base_patch16_224.mae"),  # from which SAM was trained
    "HieraDet": (f"{WINDOWS}, and {SHRINKS}", "vit_base_patch16_224.mae"),
    "Hiera": (SHRINKS, "vit_base_patch16_224.mae"),
    "SwinTransformer": (f"{WINDOWS}, and {SHRINKS}", "vit_relpos_base_patch16_224"),
    "SwinTransformerV2": (f"{WINDOWS}, and {SHRINKS}", "vit_relpos_base_patch16_224"),
    "ConvNeXt": (CONVOLUTIONAL, "vit_base_patch16_224.dino"),
    "ResNet": (CONVOLUTIONAL, "vit_base_r50_s16_224"),
    "ByobNet": (CONVOLUTIONAL, "vit_base_mci_224"),
    "FastVit": (f"most of its stages are convolutional, and {SHRINKS}", "vit_base_mci_224"),
}


def refuse(name: str, part: str, thing: object) -> ValueError:
    """The error for a model with a part of a kind that can't run."""
    kind = type(thing).__name__
    reason, nearest = REASONS.get(kind, ("its forward pass is not known here, and an unknown one is not guessed", ""))
    near = f"; nearest to it is `timm:{nearest}`" if nearest else ""
    return ValueError(f"`{name}` can't run: its {part} is `{kind}`: {reason}. {RUNS}{near}.")
