"""How two safetensors files differ: the first tensor, and how far it is off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NAME = "safetensors"


@dataclass(frozen=True)
class Stored:
    """What a file holds: its tensors by name, and its metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read(path: Path) -> Stored:
    """Read a file, of any type of number that PyTorch knows."""
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return Stored(tensors, dict(file.metadata() or {}))


def compare(expected: Stored, got: Stored) -> str:
    """Say which tensor is missing, of another shape or type, or differs, in how many, how far."""
    for name in sorted({*expected.tensors, *got.tensors}):
        if name not in got.tensors:
            return f"tensor {name} is missing"
        if name not in expected.tensors:
            return f"tensor {name} is there, and is not expected"
        kind, wanted = _kind(got.tensors[name]), _kind(expected.tensors[name])
        if kind != wanted:
            return f"tensor {name}: {kind} instead of {wanted}"
    off = {
        name: _deviation(tensor, got.tensors[name])
        for name, tensor in expected.tensors.items()
        if not _equal(tensor, got.tensors[name])
    }
    if off:
        return _told(off, expected.tensors)
    if expected.metadata != got.metadata:
        return f"the same tensors, other metadata: {got.metadata} instead of {expected.metadata}"
    return "the same tensors, in another order or layout"


def _told(off: dict[str, float], tensors: dict[str, Tensor]) -> str:
    name, deviation = next(iter(off.items()))
    where = f"tensor {name} ({_kind(tensors[name])}): largest deviation {deviation:.3g}"
    furthest = max(off, key=lambda name: off[name])
    most = f", at most {off[furthest]:.3g} in {furthest}" if off[furthest] > deviation else ""
    return f"{where} (in {len(off)} of {len(tensors)} tensors{most})"


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _equal(one: Tensor, other: Tensor) -> bool:
    """Compare bits, so that a NaN is equal to itself and 0.0 not to -0.0."""
    import torch

    return torch.equal(*(each.reshape(-1).view(torch.uint8) for each in (one, other)))


def _deviation(one: Tensor, other: Tensor) -> float:
    """Give the largest absolute deviation; infinite where only one of both is a number."""
    import torch

    here, there = (each.to(torch.complex128 if each.is_complex() else torch.float64)
                   for each in (one, other))  # fmt: skip
    off = (here - there).abs()
    off[here.isnan() & there.isnan()] = 0.0
    off[here == there] = 0.0  # infinities
    return float(off.nan_to_num(nan=float("inf"), posinf=float("inf")).max())
