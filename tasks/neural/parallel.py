"""Several processes that train one network together, each on its share of every batch.

They are started by `torchrun`, which tells each its place through the environment. All hold the
whole table and the same weights; what they exchange is one sum of gradients per step, so that the
result is that of one process but for the order of float sums, and for what dropout draws.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tasks import processes
from tasks.errors import ParamsError, StageError

STEPS_BETWEEN_WORDS = 16
"""How often processes ask each other, which makes a GPU wait, whether to stop."""


@dataclass(frozen=True)
class Group:
    """The processes that train together, as one of them sees it.

    local_rank  its number on its machine, and so that of its GPU
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def share(self, rows: Tensor) -> Tensor:
        """Give this process's part of a batch; parts differ by one row at most."""
        return rows[self.rank :: self.size]

    def sum(self, values: Tensor) -> Tensor:
        """Add up the values of all processes, in place."""
        return self._exchanged(values, distributed.ReduceOp.SUM)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the sum of all gradients; a part without rows counts as zeros.

        One exchange for all, because for networks this small each costs more than its bytes do.
        """
        if self.size == 1:
            return
        known = list(parameters)
        for each in known:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        gradients = [each.grad for each in known if each.grad is not None]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def most(self, value: int, device: torch.device) -> int:
        """Give the greatest value that any process has."""
        if self.size == 1:
            return value  # without asking the device
        shared = torch.tensor(value, device=device)
        return int(self._exchanged(shared, distributed.ReduceOp.MAX))

    def _exchanged(self, values: Tensor, operation: Any) -> Tensor:
        if self.size > 1:
            try:
                distributed.all_reduce(values, op=operation)
            except RuntimeError as error:  # of gloo, or of NCCL
                raise StageError(
                    f"train: all {self.size} processes must go on together (got no answer of one)"
                    "\nnext: the same command, which goes on from the last checkpoint"
                ) from error
        return values


ALONE = Group()


def join(device: str) -> Group:
    """Meet the other processes that `torchrun` has started; a process alone is a group of one.

    They stay together until the process ends, since they can meet under one address only once.
    """
    if processes.count() == 1:
        return ALONE
    local_rank = int(os.environ["LOCAL_RANK"])
    if not distributed.is_initialized():
        if device == "cuda":
            _take_card(local_rank)
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Group(distributed.get_rank(), processes.count(), local_rank)


def _take_card(local_rank: int) -> None:
    if local_rank >= torch.cuda.device_count():
        raise ParamsError(
            "params.yaml: models.network.processes: must be at most the number of GPUs of a "
            f"machine (got more than {torch.cuda.device_count()})"
        )
    torch.cuda.set_device(local_rank)
