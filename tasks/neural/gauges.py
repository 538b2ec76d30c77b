"""Gauges of memory: one for a GPU, and one for the processor that has the same three methods."""

from __future__ import annotations

import gc
import weakref
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Peak:
    """The most bytes that were taken at once.

    allocated  by tensors
    reserved   by PyTorch, to give them room
    outside    of PyTorch: what CUDA itself and other programs hold of the GPU
    """

    allocated: int
    reserved: int
    outside: int

    @property
    def total(self) -> int:
        """All that a GPU must have."""
        return self.reserved + self.outside

    def joined(self, other: Peak) -> Peak:
        """Give the peak of both together, one after the other."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Peak(*(max(pair) for pair in pairs))


class Gauge(Protocol):
    """Tells the peak of a device's memory."""

    def reset(self) -> None:
        """Forget the peak so far, and what is cached."""
        ...

    def peak(self) -> Peak:
        """Give the peak since `reset`."""
        ...

    def wait(self) -> None:
        """Return when the device has done all it was given."""
        ...


class Allocator:
    """The gauge of a GPU: PyTorch's own allocator on it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def reset(self) -> None:
        """Forget the peak so far, and give what is cached back to the GPU."""
        gc.collect()
        self.wait()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> Peak:
        """Give the peak since `reset`."""
        self.wait()
        free, total = torch.cuda.mem_get_info(self.device)
        return Peak(
            allocated=torch.cuda.max_memory_allocated(self.device),
            reserved=torch.cuda.max_memory_reserved(self.device),
            outside=total - free - torch.cuda.memory_reserved(self.device),
        )

    def wait(self) -> None:
        """Return when the GPU has done all it was given."""
        torch.cuda.synchronize(self.device)


class Tracker(TorchDispatchMode):
    """The gauge of the processor: follows every tensor that is made while it is entered.

    trace  bytes that were live after each operation since `reset`
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace: list[int] = []
        self._live = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in _pytree.tree_leaves(made):
            if isinstance(each, Tensor):
                self._follow(each.untyped_storage())
        self.trace.append(self._live)
        return made

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()  # views share it
        if size and key not in self._known:
            self._known[key] = weakref.ref(storage, partial(self._forget, key, size))
            self._live += size

    def _forget(self, key: int, size: int, _storage: object) -> None:
        del self._known[key]
        self._live -= size

    def reset(self) -> None:
        """Begin a new trace."""
        self.trace = []

    def peak(self) -> Peak:
        """Give the peak since `reset`."""
        most = max(self.trace, default=self._live)
        return Peak(most, most, 0)

    def wait(self) -> None:
        """Return at once: a processor is done when it returns."""
