"""CLIP's training step: the class token with parts left out at random, and the loss over a batch of captions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import attention_weights
from diagnostics.backbones.openclip import OpenClipBlock


def class_features(
    model: Any,
    images: Tensor,
    generator: torch.Generator,
    *,
    drop_patches: float,
    drop_branch: float,
) -> Tensor:
    """The class token's feature: normalized images of the model's own size (B, 3, h, w) -> (B, E), of length 1.

    `drop_patches` is the share of patches left out, others in each image. `drop_branch` is the chance, sample by
    sample, that the class token passes the last block without its residual, and likewise without the FFN. With both 0
    this is model.encode_image, normalized. The generator is one of the CPU, so that all devices leave out the same.
    """
    visual, (count, device) = model.visual, (images.shape[0], images.device)
    positions = visual.positional_embedding
    patches = visual.conv1(images).flatten(2).mT + positions[1:]
    if drop_patches:
        left = round(patches.shape[1] * (1 - drop_patches))
        order = torch.rand(count, patches.shape[1], generator=generator).argsort(dim=1)[:, :left].to(device)
        patches = patches.gather(1, order[..., None].expand(-1, -1, patches.shape[-1]))
    first = (visual.class_embedding + positions[0]).expand(count, 1, -1)
    tokens = visual.ln_pre(torch.cat([first.to(patches.dtype), patches], dim=1))
    *blocks, last = (OpenClipBlock(block) for block in visual.transformer.resblocks)
    for block in blocks:
        tokens = plain_block(block, tokens)
    heads = last.qkv(tokens)
    residual, ffn = (torch.rand(2, count, 1, 1, generator=generator) >= drop_branch).to(device)
    mixed = attention_weights(heads.q[:, :, :1], heads.k) @ heads.v
    token = tokens[:, :1] * residual + last.merge_heads(mixed, heads.normed[:, :1])
    token = token + last.ffn(token) * ffn
    return into_joint_space(visual, token)[:, 0]


def packed_features(model: Any, images: Tensor, generator: torch.Generator, *, alike: float) -> Tensor:
    """Small images side by side in one grid: normalized (B, 3, h, w) -> (B', E), of length 1 at most.

    As many fit in a grid go into one sequence, and each token sees all of them; but an image's feature is the mean of
    the unit features that the values of its own patches give, so that a patch must know its content alone.
    With the chance `alike`, a batch's values are first mixed by q-q attention over the sequence, so that queries learn
    which patches show the same.
    B' is B without the images that fill no whole grid.
    """
    visual, side = model.visual, images.shape[-1] // model.visual.patch_size[0]
    across = visual.grid_size[0] // side
    count = len(images) // across**2
    patches = visual.conv1(images[: count * across**2])  # (B', D, side, side)
    patches = patches.unflatten(0, (count, across, across)).permute(0, 1, 4, 2, 5, 3).flatten(1, 4)
    places = windows(visual.grid_size, (across * side, across * side), count, generator).to(images.device)
    patches = patches + visual.positional_embedding[1:][places]
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(count, 1, -1)
    tokens = visual.ln_pre(torch.cat([first.to(patches.dtype), patches], dim=1))
    *blocks, last = (OpenClipBlock(block) for block in visual.transformer.resblocks)
    for block in blocks:
        tokens = plain_block(block, tokens)
    heads = last.qkv(tokens)
    mixed = heads.v
    if float(torch.rand(1, generator=generator)) < alike:
        mixed = attention_weights(heads.q, heads.q) @ heads.v
    features = into_joint_space(visual, last.merge_heads(mixed, heads.normed)[:, 1:])
    return features.unflatten(1, (across, side, across, side)).mean(dim=(2, 4)).flatten(0, 2)


def plain_block(block: OpenClipBlock, tokens: Tensor) -> Tensor:
    """The stock block, with attention as a plain product: (B, T, D) -> (B, T, D).

    With so few tokens that takes a CPU a third of the time, backwards, that fused attention does.
    """
    heads = block.qkv(tokens)
    tokens = tokens + block.mix(attention_weights(heads.q, heads.k), heads)
    return tokens + block.ffn(tokens)


def into_joint_space(visual: Any, tokens: Tensor) -> Tensor:
    """Unit features of tokens: (B, T, D) -> (B, T, E)."""
    return F.normalize((visual.ln_post(tokens) @ visual.proj).float(), dim=-1)


def windows(grid: tuple[int, int], size: tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """Numbers of the patches of random windows of `size` rows and columns in a grid: (count, rows·columns)."""
    if grid == size:
        return torch.arange(grid[0] * grid[1]).expand(count, -1)
    top, left = (
        torch.randint(0, whole - part + 1, (count, 1, 1), generator=generator)
        for whole, part in zip(grid, size, strict=True)
    )
    rows, cols = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return ((rows + top) * grid[1] + cols + left).flatten(1)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """CLIP's loss, mean of both ways, and the share of images whose own text is the best: (B, E), (B, E) -> scalars.

    Texts are normalized here, images are not.
    `same` (B,) numbers the sets of classes: another image of the very same set counts neither for nor against.
    """
    logits = scale * images.float() @ F.normalize(texts.float(), dim=-1).T
    targets = torch.arange(len(logits), device=logits.device)
    logits = logits.masked_fill((same[:, None] == same) & (targets[:, None] != targets), -math.inf)
    loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    return loss, (logits.argmax(dim=1) == targets).float().mean()
