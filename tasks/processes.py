"""The processes that train together, as torchrun starts them; most often there is one."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

from tasks.errors import ParamsError

HERE = "127.0.0.1"


def is_first() -> bool:
    """Tell whether this process is the one that writes, prints and keeps for all."""
    return os.environ.get("RANK", "0") == "0"


def count() -> int:
    """Count the processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launch(wanted: int, module: str, *arguments: Path) -> bool:
    """Run a module in so many processes as torchrun does, and wait for them; tell whether it did.

    It does not if one process is enough, or if this is one of them. Processes on several machines
    are started by torchrun itself: `torchrun ... -m tasks.train data/featurize data/train`.

    Raises ParamsError if torchrun has started another number of them. If one of them fails, or a
    signal asks to stop, this process ends with their status; they have said why.
    """
    started = "WORLD_SIZE" in os.environ
    if started and count() != wanted:
        raise ParamsError(
            "params.yaml: models.network.processes: must be as many as torchrun has started (got "
            f"{wanted}, and torchrun has started {count()}): another number gives other last bits"
        )
    if started or wanted == 1:
        return False
    if wanted > (cores := os.cpu_count() or 1):
        raise ParamsError(
            f"params.yaml: models.network.processes: must be at most the {cores} cores of this "
            f"machine (got {wanted}): torchrun starts those of several machines"
        )
    _launch(wanted, ["-m", module, *map(str, arguments)])
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


def _launch(wanted: int, arguments: list[str]) -> None:
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # the workers have said what is to be said
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=wanted,
        run_id="train",
        rdzv_backend="static",
        rdzv_configs={"rank": 0},
        rdzv_endpoint=f"{HERE}:{_free_port()}",
        local_addr=HERE,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        # A shell's way to say that a signal ended it.
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)
