"""What hears of the steps of a training while it goes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Report = Callable[[int, dict[str, float]], None]
"""Takes the number of a step, from 1, and its scores: `train_log_loss`, `val_log_loss`, ...

Those of a refit are named `refit_train_log_loss`, ...
"""

Predict = Callable[[], NDArray[np.float64]]
"""Gives the probabilities of the validation rows, [rows], by what has been trained so far.

They are not calibrated yet, if they will be.
"""

Judge = Callable[[int, Predict], None]
"""Takes the number of a step that was reported, and what it would come to.

What it raises ends the training.
"""


def approve(_step: int, _predict: Predict) -> None:
    """Let a training go on."""
