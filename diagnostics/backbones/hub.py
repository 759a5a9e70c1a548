"""Models on the Hugging Face hub, or in a folder like one: what it holds decides between open_clip and timm."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.openclip import check_config, clip_backbone, first_line

OPEN_CLIP_CONFIG = "open_clip_config.json"
TIMM_CONFIG = "config.json"


# Whose warnings tell of each try of the hub's client.
CLIENT = "huggingface_hub.utils._http"


@contextmanager
def quiet_client() -> Iterator[None]:
    """Within it, the hub's client says once that the hub does not answer, and not at each of its tries."""
    logger, asked_again = logging.getLogger(CLIENT), False

    def once(record: logging.LogRecord) -> bool:
        nonlocal asked_again
        shown, asked_again = not asked_again, True
        record.msg, record.args = "The Hugging Face hub does not answer; trying again for some seconds.", ()
        return shown

    logger.addFilter(once)
    try:
        yield
    finally:
        logger.removeFilter(once)


def load_hub(argument: str) -> Backbone:
    """ViTs on the Hugging Face hub, of open_clip or timm, through its cache: hf-hub:org/name, hf-hub:org/name@REVISION

    A repository with `open_clip_config.json` is loaded with its text tower by open_clip; one with a `config.json` that
    names an `architecture`, by timm. REVISION is a commit, branch or tag of the repository, the newest by default; the
    commit that was used is the backbone's `revision`. (In `open_clip:` and `timm:` what follows the `@` is a file.)
    Raises ValueError where the repository holds neither, is unknown, has no such revision, or cannot be reached and is
    not in the cache.
    """
    spec = f"hf-hub:{argument}"
    parsed = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@(\w[\w./-]*))?", argument)
    if parsed is None or ".." in argument:
        raise ValueError(
            f"`{spec}` should read hf-hub:org/name, the hub's own name of the repository, or hf-hub:org/name@REVISION "
            "with a commit, branch or tag of it. For a weight file: open_clip:ARCHITECTURE@FILE, timm:NAME@FILE."
        )
    repository, revision = parsed[1], parsed[2]
    path, unreachable = _fetch(repository, OPEN_CLIP_CONFIG, revision)
    if path is not None:
        if revision is None:
            backbone = _from_open_clip(spec, _json(path))
        else:
            backbone = _from_open_clip(spec, _json(path), load_from=f"local-dir:{_snapshot(repository, path, spec)}")
        backbone.revision = _commit(path)
        return backbone
    path, _ = _fetch(repository, TIMM_CONFIG, revision, cached=bool(unreachable))
    if path is not None:
        backbone = _from_timm(spec, _json(path))
        backbone.revision = _commit(path)
        return backbone
    raise _unreachable(spec, unreachable) if unreachable else _neither(spec)


def load_folder(argument: str) -> Backbone:
    """ViTs of open_clip or timm in a folder laid out as on the Hugging Face hub: local-dir:PATH

    Such a folder comes from `hf download org/name --local-dir PATH`. Raises ValueError where it holds no model.
    """
    spec, folder = f"local-dir:{argument}", Path(argument)
    if not argument or not folder.is_dir():
        raise ValueError(f"`{spec}` should name a folder with weights and their {OPEN_CLIP_CONFIG} or {TIMM_CONFIG}.")
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return _from_open_clip(spec, _json(folder / OPEN_CLIP_CONFIG))
    if (folder / TIMM_CONFIG).is_file():
        return _from_timm(spec, _json(folder / TIMM_CONFIG))
    raise _neither(spec)


def _fetch(
    repository: str, filename: str, revision: str | None = None, *, cached: bool = False
) -> tuple[Path | None, str]:
    """A file of the repository, or None and, where the hub could not be asked, the reason. `cached` asks no hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, filename, revision=revision, local_files_only=cached)), ""
    except LocalEntryNotFoundError as error:
        return None, first_line(error)
    except EntryNotFoundError:
        return None, ""
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"the hub has no repository `{repository}`, or it is private: check the name, or log in: `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"the repository `{repository}` has no revision `{revision}`: name a commit, branch or tag of it."
        ) from error
    except Exception as error:  # gated repositories, proxies, disks: each with a class of its own
        raise _unreachable(f"hf-hub:{repository}", first_line(error)) from error


def _commit(path: Path) -> str:
    """The commit that a file in the hub's cache belongs to, which the cache names its folder after."""
    return path.parent.name


def _snapshot(repository: str, config: Path, spec: str) -> Path:
    """The folder with weights and vocabulary of the commit that `config` belongs to; open_clip knows no revisions."""
    from huggingface_hub import snapshot_download

    commit = _commit(config)
    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        path, unreachable = _fetch(repository, name, commit)
        if path is not None:
            break
    else:
        raise _unreachable(spec, unreachable or "it holds no weights of open_clip")
    if config.parent != path.parent:
        raise _unreachable(spec, f"weights and {OPEN_CLIP_CONFIG} come from two commits")
    try:
        snapshot_download(repository, revision=commit, allow_patterns=["*.json", "*.txt", "*.model"])
    except Exception as error:  # network, hub and disk fail in many ways
        raise _unreachable(spec, first_line(error)) from error
    return path.parent


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"`{path}` should be a JSON object: {first_line(error)}. Fetch it again.") from error


def _from_open_clip(spec: str, config: dict[str, Any], *, load_from: str = "") -> Backbone:
    """The backbone `spec`; `load_from` is what open_clip is to load where that is not the spec itself."""
    import open_clip

    model_config = config.get("model_cfg", {})
    if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model_config):
        raise ValueError(
            f"the {OPEN_CLIP_CONFIG} of `{spec}` should hold `model_cfg` with embed_dim, vision_cfg and text_cfg; it "
            f"holds {', '.join(config) or 'nothing'}."
        )
    check_config(model_config, spec)
    try:
        model = open_clip.create_model(load_from or spec, require_pretrained=True)
    except Exception as error:  # network, hub, disk and file formats fail in many ways
        raise _unreachable(spec, first_line(error)) from error
    preprocess = open_clip.get_model_preprocess_cfg(model)
    return clip_backbone(
        model,
        spec=spec,
        mean=preprocess["mean"],
        std=preprocess["std"],
        make_tokenizer=lambda: open_clip.get_tokenizer(load_from or spec),
    )


def _from_timm(spec: str, config: dict[str, Any]) -> Backbone:
    if "architecture" not in config:
        raise _neither(spec)
    import timm

    from diagnostics.backbones.timm import timm_backbone
    from diagnostics.backbones.timm_tower import TimmTower

    try:
        with torch.device("meta"):  # what cannot be run is refused before its weights are fetched
            skeleton = timm.create_model(spec, pretrained=False)
    except RuntimeError as error:  # an architecture that this timm does not know
        raise ValueError(f"`{spec}` could not be built: {first_line(error)}. A newer timm may know it.") from error
    TimmTower(skeleton, spec)
    try:
        model = timm.create_model(spec, pretrained=True)
    except Exception as error:  # network, hub, disk and file formats fail in many ways
        raise _unreachable(spec, first_line(error)) from error
    return timm_backbone(model, spec)


def _neither(spec: str) -> ValueError:
    return ValueError(
        f"`{spec}` holds neither `{OPEN_CLIP_CONFIG}` nor a `{TIMM_CONFIG}` with an `architecture`, so it is no model "
        "of open_clip or timm. Many models of other libraries have a timm version: look for `timm/…` on the hub."
    )


def _unreachable(spec: str, reason: str) -> ValueError:
    return ValueError(
        f"the weights of `{spec}` are not here and could not be fetched, or do not fit: {reason}. Where there is a "
        "network, `hf download org/name --local-dir FOLDER`; then here local-dir:FOLDER, or name the weight file: "
        "open_clip:ARCHITECTURE@FILE, timm:NAME@FILE. HF_HUB_OFFLINE=1 in the environment spares the waiting for a hub "
        "that can't be reached."
    )
