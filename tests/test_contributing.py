"""The detector of CONTRIBUTING is no more than it says, and runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from diagnostics.taps import Recorder

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_detector_of_the_text_has_its_fifteen_lines_and_marks_what_it_says(tiny, images):
    source = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)[0]
    assert sum(bool(line.strip()) for line in source.splitlines()) <= 15
    names: dict[str, object] = {"__name__": "builtins"}  # dataclasses look the module up
    exec(source, names)
    recorder = Recorder("block_out", layers=[6])
    with torch.no_grad():
        tiny.trunk(images, tap=recorder)
    layout = tiny.layout(images)
    detected = names["PeakShare"](threshold=0.4)(recorder.recording.at(6), layout)
    patches = layout.patches(recorder["block_out", 6]).numpy()
    expected = np.abs(patches).max(-1) / np.linalg.norm(patches, axis=-1)
    assert np.allclose(detected.scores.numpy(), expected, atol=1e-5)
    assert np.array_equal(detected.mask.numpy(), detected.scores.numpy() > 0.4)
