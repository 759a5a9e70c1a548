"""`python -m benchmarks.parity`: every accepted name of timm and open_clip against its stock forward.

Each is built with two blocks, if that leaves it under 250 M weights, with noise on every weight so that no step is
without effect, and run at its native size and on another grid that is not square. The stock forward takes the other
size in its library's own way. Exit status 1 if any difference is above 1e-5 of the largest output.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.coverage import FAMILIES, image_tower_outcome, timm_names, timm_outcome
from diagnostics import Backbone

BLOCKS, LARGEST, TOLERANCE = 2, 250e6, 1e-5
# Rows and columns of the other grid: our choice, not square and native to no model.
OTHER = (6, 9)
HALF = (0.5, 0.5, 0.5)


class Parity(NamedTuple):
    """One name: the difference at the native size and on the other grid, or why it was not built."""

    name: str
    native: float
    other: float
    skipped: str = ""


def add_noise(model: nn.Module, seed: int = 1) -> nn.Module:
    """Every weight moved: matrices by 1/√inputs, vectors by a fifth, so that gains, biases and scales all count."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            table = weight.ndim < 2 or name.endswith(("embed", "token", "embedding", "latent", "table", "freqs"))
            weight.add_(0.2 * noise) if table else weight.copy_(noise / weight[0].numel() ** 0.5)
    return model.eval()


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value of the stock output."""
    if ours.shape != theirs.shape:
        raise ValueError(f"outputs should have one shape; got {tuple(ours.shape)} and {tuple(theirs.shape)}.")
    return float((ours - theirs).abs().max() / theirs.abs().max())


def images(size: tuple[int, int]) -> Tensor:
    """One seeded normalized image."""
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


def compared(name: str, backbone: Backbone, stock_at: Callable[[tuple[int, int]], nn.Module]) -> Parity:
    """The backbone against the stock model at both sizes."""
    height, width = backbone.patch_size
    sizes = (backbone.native_size, (height * OTHER[0], width * OTHER[1]))
    with torch.no_grad():
        apart = [difference(backbone(images(size)), pooled(stock_at(size)(images(size)))) for size in sizes]
    return Parity(name, *apart)


def pooled(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The image's feature; CoCa's towers give the tokens beside it."""
    return output[0] if isinstance(output, tuple) else output


def timm_parity(name: str) -> Parity:
    """A name of timm."""
    import timm

    from diagnostics.backbones.timm import timm_backbone

    build = partial(timm.create_model, name, pretrained=False, depth=BLOCKS, **key_heads(name))
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in build().parameters())
    if weights > LARGEST:
        return Parity(name, 0, 0, f"{weights / 1e6:.0f} M weights with {BLOCKS} blocks")
    model = add_noise(build())
    if model.global_pool == "":
        model.reset_classifier(0, "avg")
    return compared(name, timm_backbone(model, name, mean=HALF, std=HALF), partial(resized, model))


def key_heads(name: str) -> dict[str, Any]:
    """Key heads of the blocks, where a model lists them by block: those of its first block and of one in the middle."""
    import timm

    with torch.device("meta"):
        try:
            timm.create_model(name, pretrained=False, depth=BLOCKS)
            return {}
        except AssertionError:
            blocks = timm.create_model(name, pretrained=False).blocks
    return {"num_kv_heads": (blocks[0].attn.num_kv_heads, blocks[len(blocks) // 2].attn.num_kv_heads)}


def resized(model: Any, size: tuple[int, int]) -> nn.Module:
    """timm's own way to another size; NaFlex takes every size as it is."""
    if not hasattr(model, "set_input_size") or tuple(model.patch_embed.img_size) == size:
        return model
    stock = copy.deepcopy(model)
    stock.set_input_size(size)
    return stock


def open_clip_parity(name: str) -> Parity:
    """The image tower of a name of open_clip."""
    import open_clip
    import timm
    from open_clip.model import _build_vision_tower

    from diagnostics.backbones.openclip import clip_backbone

    config = open_clip.get_model_config(name)
    vision: dict[str, Any] = dict(config["vision_cfg"])
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    else:
        vision["layers"] = BLOCKS

    def tower(size: tuple[int, int] | None = None) -> Any:
        chosen = vision if size is None else vision | {"image_size": size}
        with patch.object(timm, "create_model", partial(timm.create_model, depth=BLOCKS)):
            return _build_vision_tower(config["embed_dim"], chosen, config.get("quick_gelu", False))

    with torch.device("meta"):
        weights = sum(weight.numel() for weight in tower().parameters())
    if weights > LARGEST:
        return Parity(name, 0, 0, f"{weights / 1e6:.0f} M weights with {BLOCKS} blocks")
    model = nn.ModuleDict({"visual": add_noise(tower())})

    def stock_at(size: tuple[int, int]) -> nn.Module:
        visual: Any = model["visual"]
        if hasattr(visual, "trunk"):
            visual = copy.copy(visual)
            visual._modules = dict(visual._modules) | {"trunk": resized(visual.trunk, size)}
            return visual
        return visual if size == backbone.native_size else _stretched(visual, tower(size).eval())

    backbone = clip_backbone(model, spec=name, mean=HALF, std=HALF, make_tokenizer=None)
    return compared(name, backbone, stock_at)


def _stretched(visual: nn.Module, other: nn.Module) -> nn.Module:
    """open_clip's own way to another size: a tower of that size, filled with stretched positions."""
    from open_clip.model import resize_pos_embed

    holder, state = nn.Module(), {f"visual.{key}": value for key, value in visual.state_dict().items()}
    holder.visual = other
    resize_pos_embed(state, holder)
    holder.load_state_dict(state)
    return other


def parities(chosen: Iterable[str] = ()) -> Iterator[Parity]:
    """All accepted names, or those chosen: `timm:NAME`, `open_clip:NAME`."""
    import open_clip

    wanted = list(chosen)
    if not wanted:
        names = [name for family in FAMILIES for name in timm_names(family)]
        wanted = [f"timm:{name}" for name in names if not timm_outcome(name).reason]
        names = [name for name in open_clip.list_models() if not image_tower_outcome(name).reason]
        wanted += [f"open_clip:{name}" for name in names]
    for spec in wanted:
        library, _, name = spec.partition(":")
        yield (timm_parity if library == "timm" else open_clip_parity)(name)._replace(name=spec)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="timm:NAME or open_clip:NAME; all accepted ones by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    built, skipped, far = 0, 0, []
    largest, start = 0.0, time.monotonic()
    for parity in parities(options.names):
        if parity.skipped:
            skipped += 1
            print(f"{parity.name}: left out, {parity.skipped}", flush=True)
            continue
        built += 1
        print(f"{parity.name}: {parity.native:.1e} native, {parity.other:.1e} on {OTHER[0]}x{OTHER[1]}", flush=True)
        largest = max(largest, parity.native, parity.other)
        if not max(parity.native, parity.other) <= TOLERANCE:
            far.append(parity.name)
    minutes = (time.monotonic() - start) / 60
    print(f"{built} names, largest difference {largest:.1e}; {skipped} left out; {minutes:.0f} min")
    if far:
        print(f"above {TOLERANCE}: {', '.join(far)}")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
