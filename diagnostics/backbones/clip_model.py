"""A plain CLIP in torch alone, for the models inside this package: open_clip's names, weights and numbers without it.

The names of its weights, the order in which they are made, what they are drawn from and all sums are those of
open_clip's `CLIP` with QuickGELU, so that files and seeds mean the same in both, to the last bit.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.openclip import OpenClipBackbone, TextTower

# Of OpenAI's training images; all of their models normalize so.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
MLP_RATIO = 4
# Where the trained temperature starts.
START_TEMPERATURE = 0.07


class QuickGELU(nn.Module):
    """x·σ(1.702·x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualBlock(nn.Module):
    """A pre-norm block: attention, then two linear maps with QuickGELU between."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * width
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        layers = [("c_fc", nn.Linear(width, hidden)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(hidden, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        normed = self.ln_1(x)
        mask = None if mask is None else mask.to(x.dtype)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        mixed: Tensor = x + self.mlp(self.ln_2(x))
        return mixed


class Transformer(nn.Module):
    """Blocks one after another."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.resblocks = nn.ModuleList([ResidualBlock(width, heads) for _ in range(layers)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class VisionTower(nn.Module):
    """The image tower: (B, 3, h, w) in its own size -> (B, E), the projected class token."""

    def __init__(self, *, image_size: int, patch_size: int, width: int, layers: int, heads: int, joint: int) -> None:
        super().__init__()
        side, spread = image_size // patch_size, width**-0.5
        self.image_size, self.patch_size, self.grid_size = (image_size,) * 2, (patch_size,) * 2, (side, side)
        self.pool_type, self.attn_pool, self.final_ln_after_pool = "tok", None, False
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(spread * torch.randn(width))
        self.positional_embedding = nn.Parameter(spread * torch.randn(side**2 + 1, width))
        self.patch_dropout = nn.Identity()
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(spread * torch.randn(width, joint))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).permute(0, 2, 1)
        tokens = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], dim=1)
        tokens = self.transformer(self.ln_pre(tokens + self.positional_embedding))
        pooled: Tensor = self.ln_post(tokens)[:, 0] @ self.proj
        return pooled


class PlainClip(nn.Module):
    """Both towers. Texts are numbered tokens; a text's feature is read at its greatest number, its end."""

    attn_mask: Tensor

    def __init__(self, joint: int, *, vision: dict[str, Any], text: dict[str, Any]) -> None:
        super().__init__()
        width, length = text["width"], text["context_length"]
        self.visual = VisionTower(**vision, joint=joint)
        embedding = nn.Embedding(text["vocab_size"], width)
        positions = nn.Parameter(torch.empty(length, width))
        self.transformer = Transformer(width, text["layers"], text["heads"])
        self.context_length, self.vocab_size = length, text["vocab_size"]
        self.token_embedding = embedding
        self.positional_embedding = positions
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, joint))
        self.register_buffer("attn_mask", torch.full((length, length), -math.inf).triu_(1), persistent=False)
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / START_TEMPERATURE))
        self._draw()

    def _draw(self) -> None:
        """Starting weights of the text tower, with the deviations of OpenAI's training."""
        width, layers = self.transformer.width, self.transformer.layers
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.get_parameter("attn.in_proj_weight"), std=width**-0.5)
            nn.init.normal_(block.get_parameter("attn.out_proj.weight"), std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.get_parameter("mlp.c_fc.weight"), std=(2 * width) ** -0.5)
            nn.init.normal_(block.get_parameter("mlp.c_proj.weight"), std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        features: Tensor = self.visual(images)
        return nn.functional.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        tokens = self.transformer(self.token_embedding(text) + self.positional_embedding, self.attn_mask)
        ends = self.ln_final(tokens)[torch.arange(len(text), device=text.device), text.argmax(dim=-1)]
        features: Tensor = ends @ self.text_projection
        return nn.functional.normalize(features, dim=-1) if normalize else features


def plain_backbone(model: nn.Module, *, spec: str, make_tokenizer: Callable[[], Any], note: str = "") -> Backbone:
    """The adapter over such a model, or over open_clip's own of the same shape: evaluation mode, no gradients."""
    text = TextTower(model, make_tokenizer, spec)
    return OpenClipBackbone(model, spec=spec, text=text, mean=MEAN, std=STD, note=note)
