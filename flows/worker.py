"""A worker that gives its machine back: Prefect's own, until no run came for long enough.

The worker that is started is of the class that Prefect has for the pool's type; added to it is
where it polls. Only there it is decided to stop, so that no run can be handed out meanwhile, and
then it does not poll again. A run under way is activity for as long as it takes.

    python -m flows worker --pool gpu-pool --idle-timeout-minutes 15
"""

from __future__ import annotations

import abc
import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, get_current_settings
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.base import BaseWorker

from flows import launch, placement
from tasks.errors import StageError

UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


class IdleWorker(BaseWorker[Any, Any, Any], abc.ABC):
    """What a worker class gets in front of it, to stop when it has been idle for long enough."""

    def watch(self, idle_timeout_minutes: float, stop: Callable[[], object]) -> None:
        """Count from now on, and call `stop` when it is time."""
        self._timeout_minutes, self._stop = idle_timeout_minutes, stop
        self._under_way, self._active = 0, time.monotonic()

    async def run(self, *arguments: Any, **options: Any) -> Any:
        """Run a flow run as this kind of worker does, and take it for activity meanwhile."""
        self._under_way += 1
        try:
            return await super().run(*arguments, **options)  # type: ignore[safe-super]
        finally:
            self._under_way -= 1
            self._active = time.monotonic()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Poll; or stop, and poll no more."""
        runs = await super().get_and_submit_flow_runs()
        if runs or await self._busy():
            self._active = time.monotonic()
        elif self._idle_for_long:
            minutes = f"{self._timeout_minutes:g} minute{'s' * (self._timeout_minutes != 1)}"
            self._logger.info(
                "no run for %s: stopping, so that the machine can be given back", minutes
            )
            self._stop()
            await asyncio.Event().wait()  # which ends when this is cancelled
        return runs

    @property
    def _idle_for_long(self) -> bool:
        return time.monotonic() - self._active >= 60 * self._timeout_minutes

    async def _busy(self) -> bool:
        """Tell whether a run of this worker is not over; the server knows of jobs left alone."""
        if self._under_way or self._submitting_flow_run_ids:
            return True
        if not self._idle_for_long:
            return False  # not that anybody has to know
        runs = await self.client.read_flow_runs(
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self._work_pool_name])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))
            ),
        )
        return any(run.labels.get("prefect.worker.name") == self.name for run in runs)


def work(pool_name: str, *, idle_timeout_minutes: float, limit: int | None = None) -> None:
    """Run a worker for a pool until it is idle for too long, or told to stop.

    limit  most runs at a time

    Raises StageError if there is no server or no worker for this type of pool, ParamsError if there
    is no such pool.
    """
    if PREFECT_API_URL.value() is None:
        raise StageError(
            "PREFECT_API_URL: must name the Prefect server that a worker works for (got none)\n"
            "next: `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    kind = _kind(placement.pool(pool_name).type)
    launch.use()
    asyncio.run(_work(kind, pool_name, idle_timeout_minutes, limit))


def _kind(pool_type: str) -> Callable[..., IdleWorker]:
    """Put IdleWorker in front of the worker class that Prefect has for a type of pool."""
    known: Any = BaseWorker.get_worker_class_from_type(pool_type)
    if known is None:
        installed = ", ".join(sorted(BaseWorker.get_all_available_worker_types()))
        raise StageError(
            f"worker: a worker of the pool's type must be installed (got {pool_type}; installed: "
            f"{installed})\nnext: `make .venv/services`"
        )
    # With ABC among its bases, Prefect does not register it in place of the one it comes from.
    made: Callable[..., IdleWorker] = type(known)(known.__name__, (IdleWorker, known, abc.ABC), {})
    return made


async def _work(
    kind: Callable[..., IdleWorker], pool_name: str, idle_timeout_minutes: float, limit: int | None
) -> None:
    """Start a worker as `prefect worker start` does, signals and all."""
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    worker = kind(
        work_pool_name=pool_name,
        limit=limit,
        heartbeat_interval_seconds=int(get_current_settings().worker.heartbeat_seconds),
        create_pool_if_not_found=False,
    )
    working = asyncio.create_task(worker.start())
    worker.watch(idle_timeout_minutes, stop=working.cancel)
    try:
        await working
    except asyncio.CancelledError:  # being idle, or by a signal
        print(f"worker {worker.name!r} stopped")
