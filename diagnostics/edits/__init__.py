"""Changes inside the forward pass, as taps; a new one is a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from diagnostics.edits.base import Edit
    from diagnostics.edits.plant import channel_vector, outlier_vector, planted_places
    from diagnostics.edits.register import register_token

__all__ = ["EDITS", "Edit", "channel_vector", "outlier_vector", "planted_places", "register_token"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diagnostics.edits.base": ("Edit",),
        "diagnostics.edits.plant": (
            "channel_vector",
            "outlier_vector",
            "planted_places",
        ),
        "diagnostics.edits.register": ("register_token",),
    },
)

EDITS: Registry[Any] = Registry(
    "edit",
    {
        "purify-at": "diagnostics.edits.purify_at:PurifyAt",
        "register": "diagnostics.edits.register:TestTimeRegister",
        "mute-channels": "diagnostics.edits.mute_channels:MuteChannels",
        "attention-mask": "diagnostics.edits.attention_mask:AttentionMask",
        "ablate-heads": "diagnostics.edits.ablate_heads:AblateHeads",
        "scale-residual": "diagnostics.edits.scale_residual:ScaleResidual",
        "plant": "diagnostics.edits.plant:Plant",
    },
    group="edits",
)
