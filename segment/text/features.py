"""The words of a vocabulary as unit vectors, from a text tower or from the rows of a classifier."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images.feed import progress_bar
from segment.method import TextFeatures
from segment.text.cache import cache_file, cache_folder, read_rows, write_rows
from segment.text.class_head import Combine, RowMap, class_rows
from segment.text.same_words import check_distinct
from segment.text.templates import fill_templates, load_templates
from segment.text.vocabulary import Vocabulary

# Sentences that are encoded at once. Our choice: as many as backbones take through their text towers in one go.
BATCH = 256
# Seconds between two writings of the cache while words are encoded: what a run that is killed can lose. Our choice.
SAVE_EVERY = 30.0
# The image tower of two-tower models: the words don't depend on it.
IMAGE_TOWER = ("visual.",)


def text_features(
    backbone: Backbone,
    vocabulary: Vocabulary | str | Path | Sequence[str | Sequence[str]],
    templates: str | Path | Sequence[str] = "openai-80",
    *,
    cache: str | Path | None = "auto",
    rows: RowMap | str | Path | None = None,
    combine: Combine = "mean",
    progress: bool = True,
    definitions: str | Path | Sequence[str] | None = None,
    blend: float = 0.1,
) -> TextFeatures:
    """The vocabulary as unit vectors on the backbone's device, in fp32.

    With a text tower: each query is put into all `templates` (a name of segment.text.templates, a file, sentences); the
    features of the sentences are normalized, averaged, and normalized again. Source: openai/CLIP, notebook on prompts
    for ImageNet, which all methods here follow.
    Each query's vector is kept in `cache`, a folder, under a hash of the backbone's spec, its text tower's weights and
    the templates, so a word that was met before is read, not encoded; `auto` is OUTLIERS_CACHE or the user's cache
    folder (segment.text.cache), None keeps nothing. An interrupted run resumes.

    Without a text tower: rows of the model's classifier, found by `rows` and `combine` as segment.text.class_head says;
    templates and cache have no part in it, and the logit scale is that of CLIP, 100 (our choice).

    With `definitions`, one text for each class but the background, each query becomes (1 - `blend`) · itself + `blend`
    · the definition of its class, which is put into the templates as it stands. The sum is not brought to unit length
    again. Source: m-arda-aydn/ITACLIP 521a33c, whose texts a language model wrote.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    vocabulary : str, list, path or Vocabulary
        `"cat, dog, grass"`, a list with a list of synonyms for a class, or a file of them.
    templates : str, path or list of str
        A name (`outliers list templates`), a file, or sentences with `{}` for the word.
    cache : path, "auto" or None
        Where encoded words are kept; None keeps nothing.
    rows : dict, path or None
        Without a text tower: rows of the classifier by class, `{"cat": [281, 282]}`.
    combine : {"mean", "each"}
        Without a text tower: one query of a class, or one of each row.
    progress : bool
        Whether a bar is shown.
    definitions : path, list of str or None
        With a text tower: a text for each class, in order, without the background; or a file with a line for each.
    blend : float in [0, 1]
        The share of the definitions.

    Returns
    -------
    TextFeatures
        `features` (Q, E), unit vectors; `owners` (Q), the class of each; `names`.

    Raises
    ------
    ValueError
        For a word in two classes, for words of two classes that are one text to the text tower, and for words that a
        classifier does not know.

    Source
    ------
    openai/CLIP, notebook on prompts for ImageNet.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("pocket")
    >>> text = ao.text_features(backbone, [["zebra", "tiger"], "sky"], "plain", cache=None, progress=False)
    >>> text.owners.tolist()
    [0, 0, 1]
    """
    vocabulary = Vocabulary.parse(vocabulary)
    if not backbone.has_text and backbone.has_classifier:
        features, owners = class_rows(backbone, vocabulary, mapping=rows, combine=combine)
        return _text(vocabulary, features, owners)
    if rows is not None:
        raise ValueError(
            f"`rows` choose among the rows of a classifier, but `{backbone.spec}` has a text tower, which takes the "
            "words themselves; leave `rows` out."
        )
    sentences = load_templates(templates)
    if vocabulary.distinct:
        check_distinct(backbone, vocabulary, sentences)
    known: dict[str, Tensor] = {}
    path, key = None, _key(backbone, sentences) if cache is not None else {}
    if cache is not None:
        path = cache_file(cache_folder() if cache == "auto" else Path(cache).expanduser(), key)
        known = read_rows(path)
    missing = [word for word in dict.fromkeys(vocabulary.queries) if word not in known]
    if missing:
        known |= _encode(backbone, missing, sentences, path, key, progress=progress)
    features = torch.stack([known[word] for word in vocabulary.queries]).to(backbone.device)
    text = _text(vocabulary, features, vocabulary.owners, backbone.logit_scale, backbone.logit_bias)
    if definitions is None:
        return text
    texts = read_definitions(definitions, vocabulary)
    described = text_features(backbone, texts, templates, cache=cache, progress=progress)
    return blended(text, described.features, blend)


def read_definitions(source: str | Path | Sequence[str], vocabulary: Vocabulary) -> Vocabulary:
    """One text for each class but the background, from a list or a file with a line for each, as a vocabulary.

    ValueError for another number of texts.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        try:
            texts = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"definitions `{path}` can't be read ({error}); give text, a line a class.") from error
    else:
        texts = list(source)
    wanted = [name for number, name in enumerate(vocabulary.names) if number != vocabulary.background]
    if len(texts) != len(wanted):
        raise ValueError(
            f"`definitions` should be one text for each of {len(wanted)} classes, without the background "
            f"({', '.join(wanted[:4])} …); got {len(texts)}."
        )
    return Vocabulary(tuple((text,) for text in texts))


def blended(text: TextFeatures, definitions: Tensor, blend: float) -> TextFeatures:
    """(1 - `blend`) · each query + `blend` · its class's definition; `definitions` (C', E), background left out.

    Rows of the background stay; the others are shorter than 1, see TextFeatures.blended.
    """
    if not 0 <= blend <= 1:
        raise ValueError(f"`blend` should be the definitions' share from 0 to 1, such as 0.1; got {blend}.")
    places = torch.tensor([number for number in range(len(text.names)) if number != text.background])
    by_class = torch.zeros(len(text.names), text.features.shape[1]).to(text.features)
    by_class[places.to(by_class.device)] = definitions.to(by_class)
    described = by_class[text.owners]
    mixed = (1 - blend) * text.features + blend * described
    if text.background is not None:
        mixed = torch.where((text.owners == text.background)[:, None], text.features, mixed)
    return replace(text, features=mixed, blended=blend)


def _text(
    vocabulary: Vocabulary,
    features: Tensor,
    owners: Sequence[int],
    logit_scale: float | None = None,
    logit_bias: float | None = None,
) -> TextFeatures:
    scale = {} if logit_scale is None else {"logit_scale": logit_scale}
    return TextFeatures(
        features=features,
        owners=torch.tensor(owners, dtype=torch.long, device=features.device),
        names=vocabulary.names,
        background=vocabulary.background,
        logit_bias=logit_bias,
        **scale,
    )


def _key(backbone: Backbone, sentences: Sequence[str]) -> Mapping[str, Any]:
    """All that a word's vector depends on; the precision is among the weights' types."""
    return {
        "model": backbone.spec,
        "weights": fingerprint(backbone.model, leave_out=IMAGE_TOWER),
        "templates": list(sentences),
        "open_clip": version("open_clip_torch"),  # it, or its list of words, cuts texts into tokens
    }


def _encode(
    backbone: Backbone,
    words: Sequence[str],
    sentences: Sequence[str],
    path: Path | None,
    key: Mapping[str, Any],
    *,
    progress: bool,
) -> dict[str, Tensor]:
    """Word -> (E,) on the CPU; what is done is kept even if an error or the user breaks off."""
    step = max(1, BATCH // len(sentences))
    features: dict[str, Tensor] = {}
    saved, last = 0, time.monotonic()

    def save() -> None:
        nonlocal path, saved, last
        if path is not None and len(features) > saved:
            if not write_rows(path, features, key=key):
                path = None  # said once; the words themselves are not lost
            saved, last = len(features), time.monotonic()

    bar = progress_bar(f"words {backbone.spec}", len(words), shown=progress and len(words) > step, unit="word")
    try:
        with bar, torch.no_grad():
            for start in range(0, len(words), step):
                batch = words[start : start + step]
                texts = [text for word in batch for text in fill_templates(sentences, word)]
                each = F.normalize(backbone.encode_text(texts).float(), dim=-1).unflatten(0, (len(batch), -1))
                features |= dict(zip(batch, F.normalize(each.mean(dim=1), dim=-1).cpu(), strict=True))
                bar.update(len(batch))
                if time.monotonic() - last > SAVE_EVERY:
                    save()
    finally:
        save()
    return features
