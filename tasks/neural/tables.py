"""Examples on the device, and a network's scores of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.encoder import Dataset
from tasks.neural.architecture import Network, together
from tasks.neural.parallel import ALONE, Group

CPU = torch.device("cpu")

SCORED_ROWS = 8192
"""Rows scored at once: without gradients they take little memory."""


@dataclass(frozen=True)
class Table:
    """Examples on the device.

    numeric      float32 [rows, numbers]
    categorical  int32 [rows, categories]
    target       float32 [rows]; zeros where the outcome is not given
    """

    numeric: Tensor
    categorical: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.numeric)

    @classmethod
    def of(cls, data: Dataset, device: torch.device = CPU) -> Table:
        """Copy a dataset to the device."""
        target = np.zeros(len(data), np.float32) if data.target is None else data.target
        arrays = (data.numeric, data.categorical, target)
        return cls(*(torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in arrays))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pick rows by their numbers."""
        columns = (self.numeric, self.categorical, self.target)
        numeric, categorical, target = (each.index_select(0, rows) for each in columns)
        return numeric, categorical, target


@dataclass(frozen=True)
class Placed:
    """The parts of a table as they came, and on the device; there may be no validation part.

    table, held_out  those of `train` and `val` on the device
    """

    train: Dataset
    val: Dataset | None
    table: Table
    held_out: Table | None

    def val_scores(self, fitted: Any) -> NDArray[np.float64]:
        """Give the probability of target 1 of each row of `val`, computed on the device."""
        if self.held_out is None:
            raise ValueError("there must be a validation part")
        network = copy.deepcopy(fitted.network).to(self.held_out.target.device)
        scores: NDArray[np.float64] = replace(fitted, network=network).scores(self.held_out)
        return scores


@torch.no_grad()
def predict(
    network: Network, table: Table, *, shift: float = 0.0, group: Group = ALONE
) -> NDArray[np.float64]:
    """Give the log-odds [rows] of the ensemble, in full precision.

    shift  is taken off those of each member
    """
    network.eval()
    found = torch.zeros(len(table), device=table.numeric.device)
    for start in range(group.rank * SCORED_ROWS, len(table), group.size * SCORED_ROWS):
        rows = slice(start, start + SCORED_ROWS)
        found[rows] = together(network(table.numeric[rows], table.categorical[rows]) - shift)
    return group.sum(found).cpu().numpy().astype(np.float64)
