"""Captions for training: the classes of a scene in varied words, in the ways that prompts are written."""

from __future__ import annotations

from open_clip import OPENAI_IMAGENET_TEMPLATES

from segment.datasets.dice import Dice
from segment.datasets.shapes import Scene, caption

# A word that no vocabulary row has: the model learns that it says nothing. Any letters would do.
UNKNOWN_WORD = "qqq"
CAPTIONS = 3  # key of this stream of random numbers


def training_caption(scene: Scene, index: int, *, seed: int = 0) -> str:
    """What a scene shows, in words: no place, no size, no pixel's class. All chances are our choice.

    Half of the captions read «a picture of a tiger and a zebra over wood». The others name the same classes in any
    order, with or without articles, in one of OpenAI's 80 prompts. One in eight holds an unknown word.
    """
    dice = Dice(CAPTIONS << 32 | seed, index)
    if dice.chance(50):
        words = f"a picture of {caption(scene.kinds, scene.backgrounds)}"
    else:
        words = OPENAI_IMAGENET_TEMPLATES[dice.below(len(OPENAI_IMAGENET_TEMPLATES))](_list(scene, dice))
    if dice.chance(12):
        pieces = words.split(" ")
        pieces.insert(dice.below(len(pieces)), UNKNOWN_WORD)
        words = " ".join(pieces)
    return words


def _list(scene: Scene, dice: Dice) -> str:
    """The classes in random order, joined by words that are drawn once for the caption."""
    names = [*scene.kinds, *scene.backgrounds]
    names = [names[place] for place in dice.pick(len(names), len(names))]
    joint = (" and ", ", ", " with ", " ", " on ")[dice.below(5)]
    article = ("", "", "a ", "the ")[dice.below(4)]
    return names[0] + "".join(f"{joint}{article}{name}" for name in names[1:])
