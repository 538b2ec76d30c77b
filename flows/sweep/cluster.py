"""Trials on a Ray cluster: that of RAY_ADDRESS, or one of this machine alone.

The data travels once, through Ray's object store, and each worker process prepares it once. Spot
machines are taken first where the cluster has them. Before the first trial, a probe waits until the
cluster can run one, and sees from there whether the trials' storage and Prefect can be reached.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, cast
from uuid import UUID

import ray
from prefect import State, Task
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from flows.sweep.engines import Future, as_task
from flows.sweep.section import Sweep
from flows.sweep.trial import Bench, Conditions, Order, read
from flows.sweep.worker import WorkerError
from tasks.encoder import Dataset
from tasks.errors import StageError, VerbatimError
from tasks.trials import Outcome

ADDRESS = "RAY_ADDRESS"
"""Variable that names the cluster, as for Ray's own commands."""

HOST_AND_PORT = re.compile(r"([^/:]+):(\d+)$")
CONNECT_SECONDS = 10.0

SPOT_FIRST: dict[str, Any] = {
    "label_selector": {"ray.io/market-type": "spot"},
    "fallback_strategy": [{"label_selector": {}}],
}

CODE = ("flows", "tasks")
"""What a trial needs of the checkout."""

Data = tuple[Dataset, Dataset]


class OnRay:
    """Trials in the workers of a Ray cluster, which asks for machines as trials need them."""

    def __init__(
        self,
        conditions: Conditions,
        sweep: Sweep,
        featurize_folder: Path,
        pins: Mapping[str, str],
    ) -> None:
        self._conditions, self._sweep, self._folder = conditions, sweep, featurize_folder
        self._address = os.environ.get(ADDRESS)
        here = self._address or "local"  # and not the one that was started here last
        settings = _settings(self._address, pins)
        self._runner: RayTaskRunner[Any] = RayTaskRunner(here, settings)
        self._tasks: dict[UUID, Task[[], Any]] = {}

    def __enter__(self) -> Self:
        try:
            if self._address is not None and (place := HOST_AND_PORT.search(self._address)):
                # Ray itself would try for minutes.
                socket.create_connection((place[1], int(place[2])), CONNECT_SECONDS).close()
            self._runner.__enter__()
        except (OSError, RayError, RuntimeError, ValueError) as error:
            cause = str(error).strip().partition("\n")[0]
            raise StageError(
                f"{ADDRESS}: a Ray cluster must answer at {self._address} (got {cause})\n"
                f"next: `ray up ray-cluster.yaml`, or `unset {ADDRESS}` for one of this machine"
            ) from error
        try:
            self._probe()
            self._data = ray.put(read(self._folder))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        with suppress(Exception):  # Ctrl-C may have ended Prefect's server first
            for task_run_id, task in self._tasks.items():
                _crash(task_run_id, task, "the sweep was interrupted")
        self._runner.__exit__(*(reason or (None, None, None)))
        ray.shutdown()

    def submit(self, name: str, order: Order) -> Future:
        """Have a trial computed where the cluster has room."""
        task = as_task(
            name, self._conditions.metric, partial(_compute, self._conditions, self._data, order)
        )
        with remote_options(**self._options()):
            future = cast(Future, self._runner.submit(task, {}))
        self._tasks[future.task_run_id] = task
        return future

    def result(self, future: Future) -> Outcome:
        """Give what a trial came to; raises what the learner raises, and WorkerError."""
        task = self._tasks.pop(future.task_run_id)
        try:
            return cast(Outcome, future.result())
        except RayTaskError as error:
            raise StageError(str(error.cause)) from None
        except RayError as error:
            reason = f"its worker on Ray died ({type(error).__name__})"
            _crash(future.task_run_id, task, reason)
            raise WorkerError(reason) from None

    def _options(self) -> dict[str, Any]:
        """Give what a trial asks Ray for; a lost one comes back as a trial of its own."""
        kind = {"accelerator_type": self._sweep.gpu_type} if self._sweep.gpu_type else {}
        wanted = {"num_cpus": self._sweep.cpus, "num_gpus": self._sweep.gpus, **kind}
        return {**wanted, **SPOT_FIRST, "max_retries": 0}

    def _probe(self) -> None:
        """Raise StageError unless the cluster can run trials."""
        if self._address is None and not self._can_ever():
            raise StageError(self._why_not("this machine has no more"))
        probe = ray.remote(**self._options())(_look_around)
        answer = probe.remote(self._conditions, PREFECT_API_URL.value())
        try:
            if complaint := ray.get(answer, timeout=self._sweep.patience_seconds):
                raise StageError(complaint)
        except GetTimeoutError:
            ray.cancel(answer, force=True)
            waited = f"none came within sweep.patience_seconds={self._sweep.patience_seconds:g}"
            raise StageError(self._why_not(waited)) from None
        except RayError as error:
            raise StageError(
                f"sweep.engine: a trial must be able to start on Ray ({error})"
            ) from None

    def _can_ever(self) -> bool:
        asked = {"CPU": self._sweep.cpus, "GPU": self._sweep.gpus}
        if self._sweep.gpu_type:
            asked[f"accelerator_type:{self._sweep.gpu_type}"] = 0.001
        held = ray.cluster_resources()
        return all(held.get(name, 0) >= count for name, count in asked.items())

    def _why_not(self, reason: str) -> str:
        held = ray.cluster_resources()
        known = {
            name: count for name, count in sorted(held.items()) if not name.startswith("node:")
        }
        kind = f" of type {self._sweep.gpu_type}" if self._sweep.gpu_type else ""
        return (
            f"params.yaml: sweep: a machine of the Ray cluster must have cpus={self._sweep.cpus:g} "
            f"and gpus={self._sweep.gpus:g}{kind} for a trial (got {known}, and {reason})\n"
            f"next: ask for less, or see `ray status` of {self._address or 'a cluster of your own'}"
        )


def _settings(address: str | None, pins: Mapping[str, str]) -> dict[str, Any]:
    """Say how to start or reach Ray; workers elsewhere get this checkout's code."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    there: dict[str, Any] = {"env_vars": dict(pins)}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        code = [str(Path(package).resolve()) for package in CODE]
        return {"runtime_env": there | {"py_modules": code}, **quiet}
    here = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    return {"runtime_env": there, **here, **quiet}


def _look_around(conditions: Conditions, prefect: str | None) -> str | None:
    """Complain, from where trials will run, of what they could not reach."""
    try:
        conditions.open_study()
    except (KeyError, VerbatimError) as error:
        return (
            f"params.yaml: sweep.storage: must be reachable from {platform.node()}, where trials "
            f"run (got {error})\nnext: name a PostgreSQL database that all machines reach"
        )
    with get_client(sync_client=True) as client:
        if (reason := client.api_healthcheck()) is not None:
            return (
                f"PREFECT_API_URL: must be reachable from {platform.node()}, where trials run "
                f"(got {prefect}: {reason})\nnext: start a Prefect server that all machines reach"
            )
    return None


_benches: dict[str, Bench] = {}
"""What this worker process has prepared: at most one sweep's."""


def _compute(conditions: Conditions, data: ray.ObjectRef[Data], order: Order) -> Outcome:
    if conditions.study not in _benches:
        _benches.clear()
        _benches[conditions.study] = Bench(conditions, ray.get(data))
    return _benches[conditions.study].compute(order, lambda: False)


def _crash(task_run_id: UUID, task: Task[[], Any], reason: str) -> None:
    """Tell Prefect what the dead worker could not: perhaps not even that the task run began."""
    state: State[None] = Crashed(message=reason)
    context = FlowRunContext.get()
    with get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(task_run_id, state, force=True)
        except PrefectHTTPStatusError as error:
            flow_run = context and context.flow_run
            if error.response.status_code != HTTPStatus.NOT_FOUND or not flow_run:
                raise
            key = str(task_run_id)
            client.create_task_run(task, flow_run.id, key, id=task_run_id, name=task.name)
            client.set_task_run_state(task_run_id, state, force=True)
