"""Changes inside the forward pass, as taps; a new one is a file and a line."""

from __future__ import annotations

from typing import Any

from diagnostics.edits.attention_mask import AttentionMask
from diagnostics.edits.base import Edit
from diagnostics.edits.mute_channels import MuteChannels
from diagnostics.edits.plant import Plant, channel_vector, outlier_vector, planted_places
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.edits.register import TestTimeRegister, register_token
from diagnostics.edits.scale_residual import ScaleResidual
from diagnostics.registry import Registry

__all__ = ["EDITS", "Edit", "channel_vector", "outlier_vector", "planted_places", "register_token"]

EDITS: Registry[Any] = Registry(
    "edit",
    {
        "purify-at": PurifyAt,
        "register": TestTimeRegister,
        "mute-channels": MuteChannels,
        "attention-mask": AttentionMask,
        "scale-residual": ScaleResidual,
        "plant": Plant,
    },
)
