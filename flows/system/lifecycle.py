"""Start the whole system on this machine, and stop it; what it knows stays in its folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.system import environment, prepare
from flows.system.environment import BUCKET
from flows.system.programs import CONFIGURATION, WORKERS, Programs
from flows.system.settings import System
from tasks.errors import StageError


def up() -> None:
    """Start servers and workers, make what they need, and say where they are.

    Can be done again at any time. Raises ParamsError for wrong settings, StageError if the system
    runs with others, a port is taken, or a program does not start.
    """
    if not CONFIGURATION.exists():
        raise StageError(f"make up: must be typed in the repository's root (got {Path.cwd()})")
    system = System.load()
    system.check()
    system.root.mkdir(parents=True, exist_ok=True)
    with _alone(system):
        programs = Programs(system)
        _make_way(programs, system)
        environment.write(system)
        os.environ.update(programs.environment)  # before Prefect, or DVC, is imported
        if system.database_url is not None:
            url = system.database_url.get_secret_value()
            prepare.databases(url, ["prefect", "mlflow", "optuna"])
        programs.launch()
        programs.wait()
        told = prepare.everything(system.notify_url)
        programs.start(*WORKERS)
        prepare.reconcile_soon()
    print(greeting(system, told))


def down() -> None:
    """Stop all that `up` has started."""
    system = System.load()
    if system.root.exists():
        with _alone(system):
            Programs(system).shut_down()


@contextmanager
def _alone(system: System) -> Iterator[None]:
    """Wait until nobody else starts or stops this system."""
    with (system.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_way(programs: Programs, system: System) -> None:
    """See that nothing stands in the way: other settings, a dead supervisor's rest, strangers."""
    if programs.is_running():
        programs.compare()
        return
    programs.shut_down()
    _refuse_taken(system)


def greeting(system: System, told: str) -> str:
    """Say where everything is, who is told of runs, and what to do next."""
    return "\n".join(
        [
            f"Prefect   {system.prefect}",
            f"MLflow    {system.mlflow}",
            f"S3        {system.s3}, bucket {BUCKET}",
            f"logs      {system.folder}/log",
            told,
            f"next      open {system.prefect}/deployments, and run training/manual",
            f"          source {system.folder}/environment, for dvc, mlflow and prefect in a shell",
            "          make down",
        ]
    )


def _refuse_taken(system: System) -> None:
    taken = [
        f"{name}: must be a port that is free (got {port})"
        for name, port in system.ports.items()
        if _is_taken(system.host, port)
    ]
    if taken:
        raise StageError(
            "\n".join([*taken, "next: set it to another one, or end what listens there"])
        )


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return True
            raise StageError(
                f"VERBATIM_HOST: must be an IPv4 address of this machine (got {host}: {error})"
            ) from error
    return False
