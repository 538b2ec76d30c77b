"""A run of MLflow that shows a training while it goes on; `tracking.recording` goes on in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tasks import tracking
from tasks.open_run import OpenRun
from tasks.store import LINEAGE_KEY
from tasks.tracking import LIVE, RECORDER, SEEN

IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""A point that is late is worth nothing, and who registers must not wait for it."""
SECONDS_BETWEEN_SIGNS = 60.0


def start(name: str, *, experiment: str, key: str, system: bool) -> LiveRun | None:
    """Open a run of this key; none if the result is recorded, or if its training is shown already.

    system  log the use of processor, memory and GPUs too
    """
    os.environ.update({**IMPATIENT, **os.environ})
    mlflow = tracking.connect_to_write()
    with tracking.alone():
        if tracking.is_recorded(key, experiment=experiment):
            return None
        client = mlflow.MlflowClient()
        place = tracking.settled(client, experiment, key)
        if tracking.live_run(client, place, key) is not None:
            return None
        tags = {LINEAGE_KEY: key, **tracking.recorder(LIVE)}
        tags = mlflow.tracking.context.registry.resolve_tags(tags)
        run_id = client.create_run(place, run_name=name, tags=tags).info.run_id
    return LiveRun(run_id, mlflow, system=system)


class LiveRun:
    """An open run that takes points until another process records it."""

    def __init__(self, run_id: str, mlflow: Any, *, system: bool) -> None:
        self._run_id, self._client = run_id, mlflow.MlflowClient()
        self._known: set[tuple[str, int]] = set()
        self._open_run = OpenRun(run_id, mlflow, self._known)
        self._mark = tracking.recorder(LIVE)[RECORDER]
        self._seen_at = time.monotonic()
        self._monitor = _monitor(run_id) if system else None

    def write(self, points: Iterable[tuple[str, float, int]]) -> None:
        """Record points as (name, value, step), each name and step once."""
        new = {(name, step): (name, value, step) for name, value, step in points}
        with tracking.alone():
            if self._recorder() != self._mark:
                return  # who has taken it over records all
            self._open_run.values({}, new.values())
            self._known.update(new)
            if time.monotonic() - self._seen_at > SECONDS_BETWEEN_SIGNS:
                self._client.set_tag(self._run_id, SEEN, tracking.recorder()[SEEN])
                self._seen_at = time.monotonic()

    def rest(self) -> None:
        """Stop watching the machine: the training is over."""
        if self._monitor is not None:
            self._monitor.finish()

    def close(self) -> None:
        """End the run as FAILED, unless another process has ended it."""
        self.rest()
        with tracking.alone():  # so nobody is recording it now
            if self._recorder() is not None:
                self._client.set_terminated(self._run_id, "FAILED")

    def _recorder(self) -> str | None:
        """Name the process that the run is left open by; None if it has ended."""
        run = self._client.get_run(self._run_id)
        return run.data.tags.get(RECORDER) if run.info.status == "RUNNING" else None


def _monitor(run_id: str) -> Any:
    """Start MLflow's own; None where the machine does not tell what it asks for."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    with suppress(Exception):
        monitor = SystemMetricsMonitor(run_id)
        monitor.start()
        return monitor
    return None
