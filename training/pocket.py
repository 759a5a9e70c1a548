"""Trains `pocket` from nothing on drawn scenes and their captions: python -m training.pocket --folder RUN

No mask and no patch label is used. An interrupted run resumes from its last checkpoint with the same command.
At its end the folder holds weights.safetensors and CARD.md, the model card.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm

from diagnostics.backbones.pocket.architecture import build_model, pocket_backbone
from diagnostics.backbones.pocket.tokenizer import tokenizer
from segment.datasets.shapes import training_scene
from training.captions import training_caption
from training.card import write_card, write_weights
from training.checkpoint import load_checkpoint, save_checkpoint
from training.contrastive import class_features, contrastive_loss, packed_features
from training.recipe import SIZE, Recipe, rate_at
from training.scores import scores_of


class Batches(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Images (B, 3, h, w) uint8, rows of their captions (B, length), and a number for each set of classes (B,)."""

    def __init__(self, recipe: Recipe, start: int) -> None:
        self.recipe, self.start = recipe, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return (batch_of(self.recipe, step) for step in range(self.start, self.recipe.steps))


def batch_of(recipe: Recipe, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """The batch of one step, which depends on the step and the seed alone."""
    numbers = range(step * recipe.batch, (step + 1) * recipe.batch)
    scenes = [training_scene(number, seed=recipe.seed, size=recipe.size(step)) for number in numbers]
    captions = [
        training_caption(scene, number, seed=recipe.seed) for scene, number in zip(scenes, numbers, strict=True)
    ]
    sets: dict[tuple[str, ...], int] = {}
    same = [sets.setdefault(scene.kinds + scene.backgrounds, len(sets)) for scene in scenes]
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).contiguous()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # unknown words are meant here
        return images, tokenizer()(captions), torch.tensor(same)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone."""
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)


def train(
    folder: Path,
    recipe: Recipe,
    *,
    minutes: float | None = None,
    device: torch.device | str = "cpu",
    half: bool = True,
    workers: int = 1,
    save_every: int = 50,
    look_every: int = 500,
) -> tuple[Any, dict[str, Any]]:
    """The trained open_clip model, and facts about its run: steps, seconds, recipe.

    With `minutes`, progress is the greater of the shares of steps and of time, so that a slow machine ends its run in
    time and with the rate at zero. The global random generator is left as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_model().to(device)
    optimizer = make_optimizer(model, recipe)
    path = folder / "checkpoint.safetensors"
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    if path.exists():
        state = load_checkpoint(path, model, optimizer)
        check_recipe(path, state.get("recipe", {}), recipe)
    threads = sorted({*state.get("threads", []), torch.get_num_threads()})
    state |= {"recipe": asdict(recipe), "minutes": minutes, "threads": threads}
    before, began = state["seconds"], time.monotonic()
    backbone = pocket_backbone(model)
    mean, std = (torch.tensor(values).view(3, 1, 1).to(device) * 255 for values in (backbone.mean, backbone.std))
    scale = (mean, std)
    model.train().requires_grad_(True)
    prefetch = 4 if workers else None
    batches = DataLoader(Batches(recipe, state["step"]), batch_size=None, num_workers=workers, prefetch_factor=prefetch)
    bar = tqdm(total=recipe.steps, initial=state["step"], unit="step", desc="train", dynamic_ncols=True, mininterval=5)
    for step, batch in enumerate(batches, start=state["step"]):
        progress = step / recipe.steps
        if minutes:
            progress = max(progress, state["seconds"] / (60 * minutes))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate_at(progress, step, recipe)
        loss, hits = _loss(model, recipe, step, batch, scale, half=half)
        _descend(model, optimizer, loss)
        state |= {"step": step + 1, "seconds": before + time.monotonic() - began}
        bar.update()
        if (step + 1) % 25 < 4:  # a batch of each size
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}", found=f"{float(hits):.2f}", done=f"{progress:.0%}")
            _log(folder, step=step + 1, loss=float(loss.detach()), found=float(hits), seconds=state["seconds"])
        if (step + 1) % save_every == 0:
            save_checkpoint(path, model, optimizer, state)
        if look_every and (step + 1) % look_every == 0:
            bar.write(_validate(model, folder, step + 1))
    bar.close()
    save_checkpoint(path, model, optimizer, state)
    model.eval().requires_grad_(False)
    return model, state


def _loss(
    model: Any,
    recipe: Recipe,
    step: int,
    batch: tuple[Tensor, Tensor, Tensor],
    scale: tuple[Tensor, Tensor],
    *,
    half: bool,
) -> tuple[Tensor, Tensor]:
    """Contrastive loss of a step, and the share of images whose caption is the nearest.

    `batch`: pixels in 0…255, captions, which captions are alike; `scale`: mean and std of the pixels, on the device.
    """
    pixels, captions, alike = batch
    mean, std = scale
    with torch.autocast(mean.device.type, dtype=torch.bfloat16, enabled=half):
        images = (pixels.to(mean.device).float() - mean) / std
        dice = torch.Generator().manual_seed(recipe.seed << 32 | step)
        if pixels.shape[-1] < SIZE:
            features = packed_features(model, images, dice, alike=recipe.alike)
        else:
            features = class_features(
                model, images, dice, drop_patches=recipe.drop_patches, drop_branch=recipe.drop_branch
            )
        texts = model.encode_text(captions[: len(features)].to(mean.device))
    return contrastive_loss(features, texts, model.logit_scale.exp(), alike[: len(features)].to(mean.device))


def _validate(model: Any, folder: Path, step: int) -> str:
    """Logs the scores on validation scenes, and returns them as a line."""
    scores = scores_of(pocket_backbone(model), scenes=100)
    _log(folder, step=step, **scores)
    model.train().requires_grad_(True)  # the backbone turned both off
    return f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _descend(model: Any, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """A step of the optimizer down the loss."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(100))  # as CLIP does, arXiv:2103.00020 §2.5


def check_recipe(path: Path, stored: dict[str, Any], recipe: Recipe) -> None:
    """Refuses to resume a run of another recipe: its weights and its card would be of neither."""
    settings = json.loads(json.dumps(asdict(recipe)))
    other = [name for name, value in settings.items() if stored.get(name, value) != value]
    if other:
        was = ", ".join(f"{name} {stored[name]}" for name in other)
        now = ", ".join(f"{name} {settings[name]}" for name in other)
        raise ValueError(f"{path} is of a run with {was}, not {now}. Resume with the former, or take another folder.")


def _log(folder: Path, **values: float) -> None:
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps({name: round(value, 5) for name, value in values.items()}) + "\n")


def main(
    folder: Annotated[Path, typer.Option(help="Where checkpoints, log, weights and card go; a run there is resumed.")],
    steps: Annotated[int, typer.Option(help="Steps of the whole run.", min=1)] = Recipe.steps,
    minutes: Annotated[float | None, typer.Option(help="End, with the rate at zero, after so many minutes.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    half: Annotated[bool, typer.Option(help="Mixed precision with bfloat16.")] = True,
    seed: Annotated[int, typer.Option(help="Of first weights, scenes and what is left out.")] = Recipe.seed,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU; all by default.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that draw scenes.")] = 1,
    look_every: Annotated[int, typer.Option(help="Steps between looks at validation scenes; 0 for none.")] = 500,
) -> None:
    """Trains pocket from nothing, or resumes the run in FOLDER; then measures it and writes weights and card."""
    if threads:
        torch.set_num_threads(threads)
    recipe = Recipe(steps=steps, seed=seed)
    model, state = train(
        folder, recipe, minutes=minutes, device=device, half=half, workers=workers, look_every=look_every
    )
    write_weights(model, folder / "weights.safetensors")
    threads_used = " and ".join(map(str, state["threads"]))
    place = f"a CPU, {threads_used} thread{'s' * (threads_used != '1')}" if device == "cpu" else device
    write_card(folder / "CARD.md", folder / "weights.safetensors", state, device=place)
    typer.echo((folder / "CARD.md").read_text())


if __name__ == "__main__":
    typer.run(main)
