"""Grow trees by XGBoost one by one, from where a checkpoint left off.

`Growth` does what `xgboost.train` does, which cannot be taken up again: it gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.checkpoints import Checkpoints, State
from tasks.encoder import MISSING, Dataset
from tasks.errors import ParamsError

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix, QuantileDMatrix

Settings = dict[str, Any]

SMALL = 10_000_000
"""Values below which one thread works: more gain little then, and lose much on a busy machine."""

RAN_OUT = re.compile("out of memory|bad_alloc|MemoryAllocation", re.IGNORECASE)

SAMPLING = ("subsample", "colsample_bynode")
"""Settings of which a value below 1 draws random numbers at each tree."""

WHY_NOT = (
    "XGBoost 3.2 does not save the state of its sampling, and without it the rest of the trees "
    f"would be others; with {' and '.join(f'models.trees.{name}: 1' for name in SAMPLING)} it goes "
    "on where it was"
)


class Growth:
    """Trees that grow on the first of some parts.

    parts    name -> matrix; the trees learn from the first
    booster  the trees so far
    step     how many they are
    values   JSON values of the caller's, kept with the trees
    """

    def __init__(
        self, settings: Settings, parts: Mapping[str, DMatrix], checkpoints: Checkpoints
    ) -> None:
        import xgboost

        self._settings, self._parts, self._checkpoints = settings, parts, checkpoints
        state = checkpoints.latest() or State({}, {"step": 0})
        grown = bytearray(state.arrays["model"]) if state.arrays else None
        self.booster: Booster = xgboost.Booster(settings, list(parts.values()), grown)
        self.step: int = state.values["step"]
        self.values = {name: value for name, value in state.values.items() if name != "step"}
        if settings["device"] == "cuda":
            self._add_up()

    def add(self) -> None:
        """Grow one more tree."""
        self.booster.update(next(iter(self._parts.values())), self.step)
        self.step += 1

    def losses(self) -> dict[str, float]:
        """Give the log loss of each part, as `<part>_log_loss`."""
        evals = [(matrix, name) for name, matrix in self._parts.items()]
        _, *told = self.booster.eval_set(evals, self.step).split()  # [7] train-logloss:0.31 ...
        values = (float(each.rpartition(":")[2]) for each in told)
        return {f"{name}_log_loss": value for name, value in zip(self._parts, values, strict=True)}

    def predict(self, name: str) -> NDArray[np.float64]:
        """Give the probabilities of target 1 of a part's rows, [rows], by the trees so far.

        Their sums are there already, so that no tree is asked again.
        """
        scores: NDArray[np.float32] = self.booster.predict(self._parts[name])
        return scores.astype(np.float64)

    def keep_if_due(self) -> None:
        """Keep the trees, or where they cannot be taken up again, that they were under way."""
        if not self._checkpoints.due():
            return
        if any(self._settings[name] < 1 for name in SAMPLING):
            self._checkpoints.mark(self.step, WHY_NOT)
        else:
            self.keep()

    def keep(self) -> None:
        """Keep the trees; when no more will grow, sampling does not matter."""
        model = np.frombuffer(self.booster.save_raw("ubj"), np.uint8)
        self._checkpoints.keep(State({"model": model}, {"step": self.step, **self.values}))

    def _add_up(self) -> None:
        """Have the trees' outputs summed one after the other, as while they grew.

        On a GPU, XGBoost would sum those of all trees first, and the last bits would differ.
        """
        for step in range(1, self.step + 1):
            for matrix in self._parts.values():
                self.booster.predict(matrix, output_margin=True, iteration_range=(0, step))


@contextmanager
def memory_of(device: str, data: Dataset) -> Iterator[None]:
    """Raise ParamsError with advice where XGBoost says that the GPU's memory ran out."""
    import xgboost

    try:
        yield
    except xgboost.core.XGBoostError as error:
        if device != "cuda" or not RAN_OUT.search(str(error)):
            raise
        raise ParamsError(
            "params.yaml: models.trees.device: must be a GPU whose memory holds the training (got "
            f"cuda, and {len(data)} rows of {len(data.names)} features ran out of it)\n"
            "next: see with `nvidia-smi` who else uses it, lower models.trees.max_depth, or set "
            "models.trees.device to cpu"
        ) from None


def threads(data: Dataset) -> int:
    """Give 1 for small data, else 0, which XGBoost reads as all, or as OMP_NUM_THREADS."""
    return 1 if len(data) * len(data.names) < SMALL else 0


def matrix(data: Dataset) -> DMatrix:
    """Give XGBoost the values themselves, to predict from.

    Not as bins: without the training part's it would predict from others.
    """
    import xgboost

    return xgboost.DMatrix(**_arguments(data))


def binned(data: Dataset, like: QuantileDMatrix | None = None) -> QuantileDMatrix:
    """Give XGBoost the bins that trees are grown on, those of `like` where given.

    They are the bins, and so the trees, that a DMatrix gets in its first round.
    """
    import xgboost

    return xgboost.QuantileDMatrix(**_arguments(data), ref=like)


def _arguments(data: Dataset) -> dict[str, Any]:
    """Hand over the values with a missing category as NaN."""
    codes = data.categorical.astype(np.float32)
    codes[codes == MISSING] = np.nan
    return {
        "data": np.hstack([data.numeric, codes]),
        "label": data.target,
        "nthread": threads(data),
        "feature_types": ["q"] * data.numeric.shape[1] + ["c"] * codes.shape[1],
        "enable_categorical": True,
    }
