"""What a finished run leaves: half-precision weights, and a model card with the numbers that they reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from diagnostics.backbones.pocket.architecture import build_model, pocket_backbone
from diagnostics.backbones.weights import fill, read_weights
from segment.datasets.shapes import BACKGROUND_NAMES, KIND_NAMES
from training.scores import AMONG, METHODS, scores_of

CARD = """# Model card: `pocket`

A small CLIP trained from nothing by this project, on images that it draws itself: docs/pocket.md.

| | |
| --- | --- |
| image tower | ViT, 12 blocks, width 128, 2 heads of 64, QuickGELU, class token, 112x112 pixels, 14x14 patches of 8 |
| text tower | 3 blocks, width 128, 2 heads, 32 tokens, open_clip's word pieces cut down to those of the captions |
| joint space | 128 |
| weights | {parameters:,} numbers, stored as float16, run as float32 |
| data | {images:,} scenes of `shapes`, each seen once, with captions; no mask, no label of a patch |
| classes | {kinds}; {backgrounds} |
| loss | CLIP's, batches of {batch}; images of the very same classes do not count against each other |
| recipe | AdamW, rate {rate}, flat and then down to 0; {drop:.0%} of the patches of full images left out; residual \
and FFN of the last block's class token each left out in {branch:.0%} of the samples; sizes {sizes} take turns; \
q-q attention in {alike:.0%} of the packed batches |
| steps | {steps:,}, in {minutes:.0f} minutes on {device}, seed {seed} |

## What it reaches
Validation scenes {scenes}, weights as stored.

| | |
| --- | --- |
| own caption among {among} different ones | {retrieval:.1%} |
| images of one class named, of 16 | {zero:.1%} |

| method, last block | mIoU over 16 classes |
| --- | --- |
{methods}

## What it is for
Tests, demonstrations and figures on a machine without a network. It knows sixteen textures and nothing of the world:
a number from it says nothing about CLIP.
"""


def write_weights(model: torch.nn.Module, path: Path) -> None:
    """The weights in half precision, under open_clip's names."""
    weights = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path, {"architecture": "ViT-pocket-8"})


def write_card(path: Path, weights: Path, state: dict[str, Any], *, device: str, scenes: int = 500) -> dict[str, float]:
    """Measures the stored weights and writes the card beside them; comes back with the scores."""
    model = build_model()
    fill(model, read_weights(weights), spec="pocket", instead="Train again.")
    scores, recipe = scores_of(pocket_backbone(model), scenes=scenes), state["recipe"]
    path.write_text(
        CARD.format(
            parameters=sum(value.numel() for value in model.state_dict().values()),
            images=state["step"] * recipe["batch"],
            kinds=", ".join(KIND_NAMES),
            backgrounds=", ".join(BACKGROUND_NAMES),
            batch=recipe["batch"],
            rate=recipe["rate"],
            drop=recipe["drop_patches"],
            branch=recipe["drop_branch"],
            sizes=", ".join(map(str, recipe["sizes"])),
            alike=recipe["alike"],
            steps=state["step"],
            minutes=state["seconds"] / 60,
            device=device,
            seed=recipe["seed"],
            scenes=f"0…{scenes - 1}",
            among=AMONG,
            retrieval=scores["retrieval"],
            zero=scores["zero-shot"],
            methods="\n".join(f"| `{method}` | {scores[method]:.3f} |" for method in METHODS),
        )
    )
    return scores
