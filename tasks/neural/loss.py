"""The loss, in which rows of one class may count more than those of the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ClassWeights:
    """What a row of each class counts in the loss."""

    negative: float = 1.0
    positive: float = 1.0

    @classmethod
    def of(cls, target: NDArray[np.float32], rule: str) -> ClassWeights:
        """Weigh both classes alike in sum if the rule is `balanced`."""
        positives, rows = float(target.sum(dtype=np.float64)), len(target)
        if rule == "none" or positives in (0.0, rows):
            return cls()
        return cls(rows / 2 / (rows - positives), rows / 2 / positives)

    @property
    def shift(self) -> float:
        """What weighing adds to the log-odds, to be taken off again (Elkan 2001)."""
        return math.log(self.positive / self.negative)

    def loss(self, log_odds: Tensor, target: Tensor) -> Tensor:
        """Sum the weighted log loss of all rows, of each the mean over members [rows, members]."""
        weight = self.negative + (self.positive - self.negative) * target
        losses = functional.binary_cross_entropy_with_logits(
            log_odds, target.unsqueeze(1).expand_as(log_odds), reduction="none"
        )
        return (losses.mean(1) * weight).sum()

    def prior(self, target: NDArray[np.float32]) -> float:
        """Give the log-odds of a row of which nothing is known, as this loss has it."""
        positives = float(target.sum(dtype=np.float64))
        return math.log((positives + 0.5) / (len(target) - positives + 0.5)) + self.shift
