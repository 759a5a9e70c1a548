"""Models on the Hugging Face hub, or in a folder like one; what it holds says of which library they are."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.openclip import check_config, clip_backbone, first_line
from diagnostics.backbones.transformers import IMAGES, INDEX, WEIGHTS, folder_backbone
from diagnostics.backbones.transformers_text import TOKENIZERS
from diagnostics.backbones.transformers_tower import checked_family
from diagnostics.backbones.weights import read_shapes

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
    """ViTs on the Hugging Face hub of open_clip, timm, transformers, through its cache: hf-hub:org/name[@REVISION]

    A repository with `open_clip_config.json` is loaded with its text tower by open_clip; one with a `config.json` that
    names an `architecture`, by timm; one that names a `model_type`, in transformers' layout. REVISION is a commit,
    branch or tag of the repository, the newest by default; the commit that was used is the backbone's `revision`. (In
    `open_clip:` and `timm:` what follows the `@` is a file.) Raises ValueError where the repository holds none of
    these, is unknown, has no such revision, or cannot be reached and is not in the cache.
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
        config = _json(path)
        if _is_transformers(config):
            backbone = _from_transformers(spec, repository, path, config)
        else:
            backbone = _from_timm(spec, config, lambda: _fetched(repository, path))
        backbone.revision = _commit(path)
        return backbone
    raise _unreachable(spec, unreachable) if unreachable else _neither(spec)


def load_folder(argument: str) -> Backbone:
    """ViTs of open_clip, timm or transformers in a folder laid out as on the Hugging Face hub: local-dir:PATH

    Such a folder comes from `hf download org/name --local-dir PATH`, or from transformers' `save_pretrained`; of the
    latter PATH may also be a weight file in it, in place of the usual one. Raises ValueError where it holds no model.
    """
    spec, folder = f"local-dir:{argument}", Path(argument).expanduser()
    weights = None
    if argument and not folder.is_dir() and (folder.parent / TIMM_CONFIG).is_file():
        folder, weights = folder.parent, folder
        if not _is_transformers(_json(folder / TIMM_CONFIG)):
            raise ValueError(
                f"`{spec}` should name the folder, {folder}; or the file by its architecture: timm:NAME@FILE."
            )
    if not argument or not folder.is_dir():
        raise ValueError(f"`{spec}` should name a folder with weights and their {OPEN_CLIP_CONFIG} or {TIMM_CONFIG}.")
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return _from_open_clip(spec, _json(folder / OPEN_CLIP_CONFIG))
    if (folder / TIMM_CONFIG).is_file():
        config = _json(folder / TIMM_CONFIG)
        if _is_transformers(config):
            return folder_backbone(folder, config, spec, weights=weights)
        return _from_timm(
            spec, config, lambda: next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        )
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


def _is_transformers(config: dict[str, Any]) -> bool:
    """Whether a config.json is transformers'; timm's names an `architecture`."""
    return "architecture" not in config and "model_type" in config


def _from_transformers(spec: str, repository: str, path: Path, config: dict[str, Any]) -> Backbone:
    """A repository in transformers' layout, its files those of the config's commit, through the cache."""
    checked_family(config, spec)  # what can't run is refused before its weights are fetched
    commit, unreachable = _commit(path), ""
    _fetch(repository, IMAGES, commit)
    for name in WEIGHTS:
        weights, unreachable = _fetch(repository, name, commit)
        if weights is not None:
            break
        index, _ = _fetch(repository, f"{name}{INDEX}", commit)
        if index is not None:
            for file in sorted(set(_json(index).get("weight_map", {}).values())):
                _fetch(repository, str(file), commit)
            break
    else:
        raise _unreachable(spec, unreachable or "it holds no weights of transformers")
    if (config.get("text_config") or {}) and not any((path.parent / name).is_file() for name in TOKENIZERS):
        _fetch_tokenizer(repository, commit)
    return folder_backbone(path.parent, config, spec)


def _fetch_tokenizer(repository: str, commit: str) -> None:
    from huggingface_hub import snapshot_download

    with suppress(Exception):  # without network the image tower works; texts then say what is missing
        snapshot_download(repository, revision=commit, allow_patterns=["*.json", "*.txt", "*.model"])


def _fetched(repository: str, config: Path) -> Path | None:
    """The file of weights of the config's commit, if there is one."""
    paths = (_fetch(repository, name, _commit(config))[0] for name in WEIGHTS)
    return next((path for path in paths if path is not None), None)


def _from_timm(spec: str, config: dict[str, Any], weights: Callable[[], Path | None]) -> Backbone:
    """`weights` gives the file of weights, if there is one; it is asked for once the architecture is known to run."""
    if "architecture" not in config:
        raise _neither(spec)
    import timm

    from diagnostics.backbones.timm import TimmTower, timm_backbone

    def build(**arguments: Any) -> Any:
        with torch.device("meta"):  # what cannot be run is refused before its weights are fetched
            return timm.create_model(spec, pretrained=False, **arguments)

    arguments: dict[str, Any] = {}
    notes = []
    try:
        skeleton = build()
        if (config.get("model_args") or {}).get("global_pool") == "":
            arguments["global_pool"] = "token" if skeleton.cls_token is not None else "avg"
            notes.append(
                f"its settings pool nothing: the image's feature is by `{arguments['global_pool']}` (our choice)"
            )
            skeleton = build(**arguments)
    except RuntimeError as error:  # an architecture that this timm does not know
        raise ValueError(f"`{spec}` could not be built: {first_line(error)}. A newer timm may know it.") from error
    TimmTower(skeleton, spec)
    if "model_args" in config and _is_gated(skeleton, weights()):
        # Readers of encoders of pathology are asked to say so in code, since no config.json can.
        arguments |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
        notes.append("feed-forward networks are gated (SwiGLU), as the shapes of the weights say")
    try:
        model = timm.create_model(spec, pretrained=True, **arguments)
    except Exception as error:  # network, hub, disk and file formats fail in many ways
        raise _unreachable(spec, first_line(error)) from error
    return timm_backbone(model, spec, note=joined_notes(*notes))


def _is_gated(skeleton: Any, file: Path | None) -> bool:
    """Whether a file's first linear maps make twice the units that its second ones read, where the module's do not."""
    if file is None or type(skeleton.blocks[0].mlp).__name__ != "Mlp":
        return False
    first, second = read_shapes(file, [f"blocks.0.mlp.{name}.weight" for name in ("fc1", "fc2")])
    return first is not None and second is not None and first[0] == 2 * second[1]


def _neither(spec: str) -> ValueError:
    return ValueError(
        f"`{spec}` holds neither `{OPEN_CLIP_CONFIG}` nor a `{TIMM_CONFIG}` with an `architecture` or a `model_type`, "
        "so it is no model of open_clip, timm or transformers. Many models of other libraries have a timm version: "
        "look for `timm/…` on the hub."
    )


def _unreachable(spec: str, reason: str) -> ValueError:
    return ValueError(
        f"the weights of `{spec}` are not here and could not be fetched, or do not fit: {reason}. Where there is a "
        "network, `hf download org/name --local-dir FOLDER`; then here local-dir:FOLDER, or name the weight file: "
        "open_clip:ARCHITECTURE@FILE, timm:NAME@FILE. HF_HUB_OFFLINE=1 in the environment spares the waiting for a hub "
        "that can't be reached."
    )
