"""Why a timm model can't run: the true reason, and what works instead."""

from __future__ import annotations

RUNS = (
    "What runs: timm's VisionTransformer, its distilled and rotary kin (augreg, DeiT, DINO, DINOv2, DINOv3, MAE, CLIP, "
    "SigLIP, AIMv2, EVA, EVA-02, Perception Encoder …), for example `timm:vit_base_patch16_224.dino`."
)

# Why a class that people do try is refused. A class that is not named here is refused as well, as unknown.
REASONS = {
    "ParallelScalingBlock": "attention and MLP run side by side on one projection: there is no block_sum between them",
    "DiffParallelScalingBlock": "attention and MLP run side by side, and attention is a difference of two softmaxes",
    "ParallelThingsBlock": "several attentions run side by side: there is no one attention matrix to a head",
    "DiffAttention": "attention is a difference of two softmaxes: its rows are not a distribution",
    "Beit": "a relative position bias is added inside the attention",
    "VisionTransformerRelPos": "a relative position bias is added inside the attention",
    "VisionTransformerSAM": "attention is windowed, with relative positions inside it",
    "SwinTransformer": "attention is windowed and the grid shrinks between stages",
    "SwinTransformerV2": "attention is windowed and the grid shrinks between stages",
    "Hiera": "tokens are pooled between stages: they do not keep one grid",
    "NaFlexVit": "it takes packed sequences of patches, not images",
    "ConvNeXt": "it is a convolutional network: it has no tokens",
    "ResNet": "it is a convolutional network: it has no tokens",
    "HybridEmbed": "a convolutional network stands before the patches",
}


def refuse(name: str, part: str, thing: object) -> ValueError:
    """The error for a model with a part of a kind that can't run."""
    kind = type(thing).__name__
    reason = REASONS.get(kind, "its forward pass is not known here, and an unknown one is not guessed")
    return ValueError(f"`{name}` can't run: its {part} is `{kind}`: {reason}. {RUNS}")
