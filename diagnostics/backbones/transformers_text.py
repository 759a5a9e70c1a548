"""The text tower of a model in transformers' layout, run by transformers itself, which is loaded at the first text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Before the names of the text tower in a model of two.
INNER = "text_model."
# Any of them is a tokenizer in transformers' layout.
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
MISSING = "texts need the library transformers: pip install 'attention-outliers[transformers]'. Images work without it"


class Weights(nn.Module):
    """Weights by their dotted names, without a forward: they move and are told apart like those of any module."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            holder: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if part not in holder._modules:
                    holder.add_module(part, Weights({}))
                holder = holder._modules[part]  # type: ignore[assignment]
            holder.register_parameter(last, nn.Parameter(weight.detach(), requires_grad=False))


class TwoTowers(nn.Module):
    """What open_clip's models have, for a model of transformers: `visual`, `encode_text`, scale and bias of products.

    `kind` is transformers' class for the text tower alone, `config` its settings.
    """

    def __init__(
        self,
        visual: nn.Module,
        text: Mapping[str, Tensor],
        scales: Mapping[str, Tensor],
        *,
        kind: str,
        config: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.visual, self.text, self.kind, self.config = visual, Weights(text), kind, dict(config)
        for name in ("logit_scale", "logit_bias"):
            scale = scales.get(name)
            self.register_parameter(name, None if scale is None else nn.Parameter(scale.detach(), requires_grad=False))
        self._built: tuple[tuple[torch.device, torch.dtype], Any] | None = None

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Numbered tokens (C, length) -> (C, E)."""
        output = self._tower()(input_ids=tokens)
        projected = getattr(output, "text_embeds", None)
        features: Tensor = output.pooler_output if projected is None else projected
        return nn.functional.normalize(features, dim=-1) if normalize else features

    def _tower(self) -> Any:
        """transformers' text tower over the weights that are here; made anew where they have moved."""
        first = next(self.text.parameters())
        place = (first.device, first.dtype)
        if self._built is None or self._built[0] != place:
            library = _library()
            kind = getattr(library, self.kind)
            tower = kind(kind.config_class.from_dict(self.config))
            names = tower.state_dict()
            inner = any(name.startswith(INNER) for name in names)  # some versions name the tower within the class
            state = self.text.state_dict()
            tower.load_state_dict(
                {name if inner else name.removeprefix(INNER): weight for name, weight in state.items()}, assign=True
            )
            self._built = place, tower.to(first.device).eval().requires_grad_(False)
        return self._built[1]


class Tokens:
    """A tokenizer of transformers as open_clip's are called: texts -> (C, length)."""

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.tokenizer, self.length = tokenizer, length

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        tokens: Tensor = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=context_length or self.length,
            return_tensors="pt",
        )["input_ids"]
        return tokens


def folder_tokenizer(folder: Path, length: int) -> Tokens:
    """The tokenizer of a folder in transformers' layout; nothing is fetched."""
    library = _library()
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ValueError(f"`{folder}` holds no tokenizer, such as {TOKENIZERS[0]}: fetch or save it there")
    return Tokens(library.AutoTokenizer.from_pretrained(str(folder), local_files_only=True), length)


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError(MISSING) from error
    return transformers
