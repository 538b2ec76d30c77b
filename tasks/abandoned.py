"""Runs of MLflow that dead processes left open, closed as `register` and sweeps would close them.

A run that is closed here wrongly, because its process lives after all on another machine, is ended
as FINISHED by that process. Runs that bear no sign of Verbatim are not touched.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tasks import store, tracking
from tasks.sweep_run import FAILED, KILLED, RUNNING, SWEEP_KEY
from tasks.tracking import RECORDER


@dataclass(frozen=True)
class Closed:
    """A run that was closed: its name, how it ended, and why."""

    name: str
    status: str
    why: str


def close(dead: Collection[str] = ()) -> list[Closed]:
    """End the runs whose process is gone: a sweep's as KILLED, to be gone on with, others FAILED.

    dead  names of flow runs that are known to be dead: what they recorded on other machines, of
          whose processes nothing is known here, is closed too
    """
    file = store.database()
    if file is not None and not file.exists():
        return []
    mlflow = tracking.connect_to_write()
    client, closed = mlflow.MlflowClient(), []
    with tracking.alone():  # so nobody on this machine is about to open or to record one
        for run in _open(client):
            if (why := _why(run, dead)) is not None:
                status = KILLED if SWEEP_KEY in run.data.tags else FAILED
                client.set_terminated(run.info.run_id, status)
                closed.append(Closed(run.info.run_name, status, why))
    return closed


def _open(client: Any) -> Iterator[Any]:
    """Give the runs that somebody has left open, or is at work on, in all experiments."""
    places = [place.experiment_id for place in client.search_experiments()]
    is_open = f"attributes.status = '{RUNNING}' and tags.{RECORDER} LIKE '%:%'"
    return iter(list(client.search_runs(places, is_open)) if places else [])


def _why(run: Any, dead: Collection[str]) -> str | None:
    """Say why a run is to be closed; None if its process may live."""
    recorder = run.data.tags[RECORDER]
    if tracking.is_abandoned(run):
        return f"its process {recorder} is gone"
    is_elsewhere = recorder.partition(":")[0] != socket.gethostname()
    return "its flow run is dead" if is_elsewhere and run.info.run_name in dead else None
