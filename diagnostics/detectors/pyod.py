"""Any outlier detector of the library PyOD, run on the patches of each image."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from diagnostics.detectors.base import Detector
from diagnostics.detectors.features import TokenTap, patch_features, score_each
from diagnostics.layout import Layout
from diagnostics.taps import Recording

MISSING = "the library PyOD is not installed; pip install pyod"


@dataclass(frozen=True, kw_only=True)
class Pyod(Detector):
    """Marks patches by a detector of PyOD, one fitted to each image: `pyod:ECOD`, `pyod:HBOS` ...

    Score: the model's `decision_scores_`; unit and scale are the model's. A quota: the share `contamination` of the
    patches is marked, outliers or not, by PyOD's own rule. Models that take a `random_state` get `seed`; other random
    ones are not repeatable. Runs on the CPU. An image with a nan or infinite value has nan scores and no outliers.
    Needs the optional library: pip install pyod. Source: Zhao, Nasrullah and Li, PyOD, JMLR 20 (2019).

    Extreme values: what the model makes of them. In bf16 it differs as its model does; not measured.
    """

    quota: ClassVar[bool] = True
    bare: ClassVar[str] = "name"
    published: ClassVar[str] = "PyOD's default contamination is 0.1; SC-CLIP takes 0.05 of the patches of CLIP."
    name: str = "ECOD"
    contamination: float = 0.05  # SC-CLIP 0417ba9, so that it compares with `lof-release`
    seed: int = 0
    tap: TokenTap = "block_out"

    def __post_init__(self) -> None:
        if not 0 < self.contamination <= 0.5:
            raise ValueError(
                f"`contamination` should be a share above 0, at most 0.5 as PyOD asks; got {self.contamination}."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.tap,)

    def unsupported_reason(self, layout: Layout) -> str | None:
        return None if _installed() else MISSING

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        if not _installed():
            raise ValueError(f"{self} can't run here: {MISSING}.")
        model = self._model_class()
        settings: dict[str, Any] = {"contamination": self.contamination}
        if "random_state" in inspect.signature(model).parameters:
            settings["random_state"] = self.seed
        features = patch_features(recording, layout, self.tap)
        return score_each(features, lambda patches: _fitted_scores(model(**settings), patches))

    def mark(self, scores: Tensor) -> Tensor:
        return scores > scores.quantile(1 - self.contamination, dim=1, keepdim=True)

    def _model_class(self) -> Any:
        """The class `name`, found in the module of the same name, whatever the case and the underscores."""
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()
        for module in dict.fromkeys((self.name.lower(), snake)):
            try:
                members = vars(importlib.import_module(f"pyod.models.{module}"))
            except ModuleNotFoundError as error:
                if error.name == "pyod":
                    raise ValueError(
                        f"{self} can't run: the library PyOD is not installed; pip install pyod."
                    ) from error
                if not (error.name or "").startswith("pyod"):
                    raise ValueError(f"PyOD's `{self.name}` needs the library `{error.name}`: install it.") from error
                continue
            for key, value in members.items():
                if key.lower() == self.name.replace("_", "").lower() and inspect.isclass(value):
                    return value
        raise ValueError(
            f"PyOD has no detector `{self.name}`. Name a class of pyod.models, such as ECOD, HBOS, COPOD or KNN."
        )


def _installed() -> bool:
    try:
        return importlib.util.find_spec("pyod") is not None
    except ValueError:  # a module put into sys.modules by hand has no spec
        return True


def _fitted_scores(model: Any, patches: np.ndarray) -> np.ndarray:
    return np.asarray(model.fit(patches).decision_scores_)
