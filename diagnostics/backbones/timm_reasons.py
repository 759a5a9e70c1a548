"""Why a timm model can't run: the true reason, and what works instead."""

from __future__ import annotations

from torch import nn

RUNS = (
    "What runs: timm's VisionTransformer and its kin, Eva, Beit, VisionTransformerRelPos and NaFlexVit (augreg, DeiT, "
    "DINO, DINOv2, DINOv3, MAE, CLIP, SigLIP, AIMv2, EVA, Perception Encoder, BEiT, ViTamin …), for example "
    "`timm:vit_base_patch16_224.dino`"
)
WINDOWS = "most of its blocks attend within windows, not among all tokens, so that no attention of all tokens exists"
SHRINKS = "its grid of tokens shrinks between stages, so that no patch is the same token in all layers"
LANGUAGE = "it is the encoder of a language model, in a class of its own whose positions and norms are not read here"
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
    "Cait": ("its class token joins in blocks of its own at the end: not all layers have it", "deit3_base_patch16_224"),
    "Xcit": ("its attention is among channels, not among tokens", "vit_base_patch16_224.dino"),
    "CrossVit": ("it has two streams of tokens, on grids of two sizes", "deit_base_patch16_224"),
    "ConVit": ("its attention mixes two softmaxes, of contents and of places", "deit_base_patch16_224"),
    "Qwen3VitClassifier": (LANGUAGE, "vit_base_patch16_siglip_224.v2_webli"),
    "DeepseekVitClassifier": (LANGUAGE, "vit_small_patch16_dinov3.lvd1689m"),
    "Gemma4VitClassifier": (LANGUAGE, "vit_base_patch16_siglip_224.v2_webli"),
}


def refuse(name: str, part: str, thing: object) -> ValueError:
    """The error for a model with a part of a kind that can't run."""
    kind = type(thing).__name__
    reason, nearest = REASONS.get(kind) or _by_its_parts(thing)
    near = f"; nearest to it is `timm:{nearest}`" if nearest else ""
    return ValueError(f"`{name}` can't run: its {part} is `{kind}`: {reason}. {RUNS}{near}.")


def _by_its_parts(thing: object) -> tuple[str, str]:
    """The reason for a class that is not named: what its parts and timm's list of its stages say."""
    if isinstance(thing, nn.Module) and hasattr(thing, "feature_info"):  # a whole model, not a part of one
        if not any(hasattr(part, "num_heads") for part in thing.modules()):
            return "it has no attention", "vit_base_patch16_224.augreg_in21k"
        stages = thing.feature_info if isinstance(thing.feature_info, list) else []
        if len({stage.get("reduction") for stage in stages if isinstance(stage, dict)}) > 1:
            return SHRINKS, "vit_base_patch16_224.augreg_in21k"
    return "its forward pass is not known here, and an unknown one is not guessed", ""
