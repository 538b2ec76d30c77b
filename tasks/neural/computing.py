"""How a network is computed: on which device, how precisely, and whether twice the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.utils.deterministic

Precision = Literal["auto", "float32", "bfloat16", "float16"]

UNSET_MEMORY: Any = torch.utils.deterministic
"""By default it is filled along with deterministic algorithms, in case that somebody reads it."""

RAN_OUT = re.compile("out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
"""What CUDA, the processor's allocator, cuBLAS and NCCL say when memory ran out."""

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""cuBLAS gives the same sums twice only with a workspace of fixed size."""


@dataclass(frozen=True)
class Computing:
    """Where and how precisely the products of a network are computed.

    dtype  of matrix products; weights, sums and losses stay in float32
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def mixed(self) -> bool:
        """Whether products are computed in half precision."""
        return self.dtype != torch.float32

    def autocast(self) -> torch.autocast:
        """Compute what is inside in this precision."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.mixed)

    def seed(self, seed: int) -> None:
        """Seed what is drawn on this device, and only there: `torch.manual_seed` is slow."""
        on_gpu = self.device.type == "cuda"
        generators = torch.cuda.default_generators if on_gpu else (torch.default_generator,)
        generators[self.device.index or 0].manual_seed(seed)

    def scaler(self) -> torch.amp.GradScaler:
        """Give what keeps small gradients from vanishing in float16; elsewhere it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def memory_bytes(self) -> tuple[int, int]:
        """Give how many bytes of the GPU's memory are free, and how many it has."""
        return torch.cuda.mem_get_info(self.device)


def choose(device: str, precision: Precision, *, local_rank: int = 0) -> Computing:
    """Settle a device, `cpu` or `cuda`, and `auto`: half precision on a GPU alone.

    That is bfloat16 where the card computes it itself, which those before Ampere do not.
    """
    place = torch.device(device, local_rank) if device == "cuda" else torch.device(device)
    if precision != "auto":
        return Computing(place, getattr(torch, precision))
    if device == "cpu":
        return Computing(place, torch.float32)
    half = torch.cuda.is_bf16_supported(including_emulation=False)
    return Computing(place, torch.bfloat16 if half else torch.float16)


@contextmanager
def settled(*, threads: int, deterministic: bool = True) -> Iterator[None]:
    """Pin the number of threads and the choice of algorithms, and leave both as they were.

    The processor's random generator is left as it was, too. On a GPU the first call in a process
    counts for cuBLAS, since it reads its setting once.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling = UNSET_MEMORY.fill_uninitialized_memory
    if deterministic:
        os.environ.setdefault(CUBLAS, ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    UNSET_MEMORY.fill_uninitialized_memory = False
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        UNSET_MEMORY.fill_uninitialized_memory = filling


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error of PyTorch says that memory ran out, on a GPU or on the processor."""
    return isinstance(error, torch.OutOfMemoryError) or bool(RAN_OUT.search(str(error)))
