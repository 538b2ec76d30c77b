"""Close what dead processes left open outside Prefect: runs in MLflow, trials in Optuna.

Both are judged by the process that signed them, as `tasks.tracking` does; of MLflow runs that
another machine signed, by the name they share with a flow run that is known to be dead. A store
that is out of reach is named, and stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from flows.sweep.losing import lose_left
from flows.sweep.section import URL, Sweep
from flows.sweep.storage import address, reachable, shown
from tasks import abandoned, params, store
from tasks.errors import VerbatimError

Closed = tuple[str, str, str, str]
"""What it was, what state it had and has, and why."""


def close(dead: Collection[str]) -> list[Closed]:
    """Close what is left open in both; `dead`: names of flow runs of which none is alive."""
    return [
        *_or_why_not(f"MLflow at {store.shown()}", lambda: _runs(dead)),
        *_or_why_not("Optuna", _trials),
    ]


def _or_why_not(place: str, close_all: Callable[[], list[Closed]]) -> list[Closed]:
    try:
        return close_all()
    except VerbatimError as error:
        return [(place, "unknown", "unknown", str(error).splitlines()[0])]


def _runs(dead: Collection[str]) -> list[Closed]:
    with store.reachable():
        return [
            (f"MLflow run {run.name}", "RUNNING", run.status, run.why)
            for run in abandoned.close(dead)
        ]


def _trials() -> list[Closed]:
    if (url := _storage()) is None:
        return []
    with reachable(url):
        return [
            (f"trial {number} of {study}", "RUNNING", "FAIL", f"its driver died, in {shown(url)}")
            for study, number in lose_left(url)
        ]


def _storage() -> str | None:
    """Give the storage of sweeps, which the environment or params.yaml names; None if none does."""
    if stated := os.environ.get(URL):
        return stated
    if "sweep" not in params.load():
        return None
    return address(params.read({"sweep": Sweep})["sweep"])
