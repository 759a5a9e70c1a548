"""What the trunk costs against the stock forward for each family, in processor time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.ratios import ratio, timed

# A small model of each family, at its native size.
MODELS = {
    "plain ViT": "vit_small_patch16_224",
    "DINOv3": "vit_small_patch16_dinov3",
    "EVA-02, gated": "eva02_small_patch14_224",
    "mixed rotary": "vit_small_patch16_rope_mixed_224",
    "BEiT, relative bias": "beit_base_patch16_224",
    "relative bias, network": "vit_relpos_small_patch16_224",
    "norms behind": "vit_relpos_medium_patch16_rpn_224",
    "branches side by side": "vit_base_patch16_xp_224",
    "several branches": "vit_small_patch16_18x2_224",
    "differential": "vit_dpwee_patch16_reg1_gap_256",
    "stem, ViTamin": "vitamin_small_224",
    "NaFlex": "naflexvit_base_patch16_siglip",
}
# Blocks of each, so that a round takes seconds: our choice.
BLOCKS = 4


def family_costs(*, batch: int, rounds: int, device: str = "cpu") -> dict[str, tuple[float, float]]:
    """Family -> the trunk's and the pool's time over the stock forward's, and seconds of it; median over rounds.

    On a CPU by processor time, which does not count what other programs take.
    """
    import timm

    from diagnostics.backbones.timm import timm_backbone

    clock = time.process_time if device == "cpu" else time.perf_counter
    costs = {}
    for family, name in MODELS.items():
        torch.manual_seed(0)
        model = timm.create_model(name, depth=BLOCKS).eval().to(device)
        backbone = timm_backbone(model, name, mean=(0.5,) * 3, std=(0.5,) * 3)
        # 256 pixels for NaFlex, whose published size takes long.
        size = (256, 256) if name.startswith("naflex") else backbone.native_size
        images = torch.randn(batch, 3, *size, device=device, generator=torch.Generator(device).manual_seed(0))
        contestants: dict[str, Callable[[], object]] = {
            "stock forward": lambda model=model, images=images: model(images),  # type: ignore[misc]
            "trunk": lambda backbone=backbone, images=images: backbone(images),  # type: ignore[misc]
        }
        with torch.no_grad():
            times = timed(contestants, rounds, clock=clock)
        costs[family] = (ratio(times, "trunk", "stock forward"), statistics.median(times["trunk"]))
    return costs
