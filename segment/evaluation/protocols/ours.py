"""`ours`: one protocol for all methods and data sets, tuned for none, so that methods differ and not their settings."""

from __future__ import annotations

from segment.decoding.windows import Slide
from segment.evaluation.protocols.base import Protocol, Protocols

PROTOCOLS_OF_OURS = Protocols(
    summary="one for all: the model's own size as windows, half of it apart, plain names, scale 40, no threshold",
    known={},
    everywhere=True,
    elsewhere=Protocol(
        name="ours",
        dataset="",
        source="our choice",
        published=False,
        size=None,  # our choice: 1.5 windows, short side 336 for a model of 224, as SCLIP mostly has it
        windows=Slide(),  # our choice: the model's own size, so that nothing depends on stretched positions
        templates="openai-80",  # our choice: what all but GEM use
        words="ours",  # our choice: names as people write them, one list of words for every background
        scale=40.0,  # our choice: SCLIP's scale without background
        threshold=0.0,  # our choice: the background competes by its words alone
        smallest_area=0.0,  # our choice: a rule of VOC21 alone
        positions="bicubic-offset",  # our choice: what five of the seven releases have
    ),
)
