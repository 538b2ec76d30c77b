"""Where a learner computes: the processor, or a GPU that CUDA can use."""

from __future__ import annotations

import ctypes
from typing import Literal

from tasks.errors import ParamsError

Device = Literal["auto", "cpu", "cuda"]
"""What params.yaml may say: `auto` is `cuda` where CUDA finds a GPU, else `cpu`."""

FOUND = Literal["cpu", "cuda"]


def resolve(device: Device, key: str) -> FOUND:
    """Settle `auto`; `key` is the parameter's place in params.yaml.

    Raises ParamsError if a GPU is asked for where there is none.
    """
    if device == "cpu":
        return "cpu"
    if gpus():
        return "cuda"
    if device == "auto":
        return "cpu"
    raise ParamsError(
        f"params.yaml: {key}: must be cpu or auto where CUDA finds no GPU (got cuda)\n"
        "next: set it to cpu, or see what `nvidia-smi` and CUDA_VISIBLE_DEVICES say"
    )


def gpus() -> int:
    """Count the GPUs that a program may use, as the driver itself does.

    It honours CUDA_VISIBLE_DEVICES, and takes milliseconds where importing PyTorch takes seconds.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
