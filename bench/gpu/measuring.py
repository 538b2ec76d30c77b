"""What the parts of `bench.gpu` are given, and what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from bench.gpu import synthetic
from tasks.encoder import Dataset
from tasks.neural.tables import Table

Facts = dict[str, Any]
Measurements = dict[str, Callable[[], Iterable[Facts]]]
"""Name -> what gives facts as it finds them."""

HELD_OUT = 10
"""One in so many rows, the last ones, is not trained on."""


@dataclass
class Bench:
    """Where and on what is measured.

    seconds   that a speed is measured for
    deadline  by `time.perf_counter`, after which no measurement starts
    """

    device: torch.device
    data: Dataset
    seconds: float
    deadline: float

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU that computes."""
        return self.device.type == "cuda"

    @cached_property
    def table(self) -> Table:
        """Copy the whole table to the device."""
        return Table.of(self.data, self.device)

    @cached_property
    def parts(self) -> tuple[Dataset, Dataset]:
        """Give the rows to train on, and those held out."""
        cut = len(self.data) - len(self.data) // HELD_OUT
        return synthetic.part(self.data, slice(cut)), synthetic.part(self.data, slice(cut, None))
