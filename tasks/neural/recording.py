"""Steps recorded once as a CUDA graph and replayed, which is one launch in place of hundreds.

The kernels of a small network take less time than Python takes to launch them. A replay computes
the very bits of the work that was recorded, and draws (for dropout) from the seed of the moment.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tasks.neural.tables import Table

Work = Callable[[Table, Tensor], None]
"""What is done with rows of a table, all of it on the device, and always in the same tensors."""

PLAIN_STEPS = 10
"""In which whatever is made or chosen at first comes about: optimiser states, algorithms."""


class Recorder:
    """Does work on batches of rows of one table; those as long as the longest are replayed.

    possible  False where there is no GPU, or the work waits for others
    """

    def __init__(self, *, possible: bool) -> None:
        self._plain_steps = PLAIN_STEPS if possible else None
        self._rows: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def do(self, work: Work, table: Table, rows: Tensor) -> None:
        """Do the work on these rows; it must be the same work each time."""
        if self._graph is None and self._is_time():
            self._record(work, table)
        if self._graph is None and (self._rows is None or len(rows) > len(self._rows)):
            self._rows = rows.clone()
        if self._graph is None or self._rows is None or len(rows) != len(self._rows):
            work(table, rows)
            return
        self._rows.copy_(rows)
        self._graph.replay()

    def _is_time(self) -> bool:
        """Tell, once, that the plain steps are over, if a copy of all that they took would fit.

        Where it would not, the kernels are so large that launching them does not count.
        """
        if self._plain_steps is None:
            return False
        self._plain_steps -= 1
        if self._plain_steps >= 0:
            return False
        self._plain_steps = None
        free, _ = torch.cuda.mem_get_info()
        return torch.cuda.memory_reserved() < free

    def _record(self, work: Work, table: Table) -> None:
        """Record what the work does with whatever rows are put where the longest batch was."""
        if self._rows is not None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                work(table, self._rows)
