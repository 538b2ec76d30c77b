"""Walk stages in the graph's order: each a Prefect task run, tried again where that heals."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from flows.graph import FAILED, LOCK, Done, Graph, Step
from flows.process import CommandError
from flows.remote_errors import RemoteError
from flows.report import Row

RETRY_DELAYS_SECONDS = [2.0, 10.0, 60.0]
REMOTE_RETRIES = 2
"""How often a remote is tried again, whatever `dvc.yaml` says of the stage itself."""

Bring = Callable[[Step], Done]
"""Brings one stage up to date."""


DATA_REFUSED, GATE_FAILED = "DataRefused", "GateFailed"
"""States of a run that ended because of what it was given, or of what it made."""

REFUSALS = {
    "DataValidationError": (DATA_REFUSED, "the data was refused"),
    "GateError": (GATE_FAILED, "the model did not pass the gate"),
}
"""What no retry and no mended machine would change, by the error that a stage has printed."""


@dataclass(frozen=True)
class Failure:
    """Why the walk ended early.

    kind  the class of the error that the stage has printed; None if it printed none
    """

    stage: str
    kind: str | None
    message: str

    @property
    def state_name(self) -> str | None:
        """The state that a run ends in for it; None for that of any failure."""
        return REFUSALS[self.kind][0] if self.kind in REFUSALS else None

    @property
    def what(self) -> str:
        """What has happened, in words."""
        return REFUSALS[self.kind][1] if self.kind in REFUSALS else f"{self.stage} failed"


def walk(graph: Graph, steps: list[Step], rows: list[Row], bring: Bring) -> Failure | None:
    """Bring each stage up to date, adding a row for it; tell why it failed, if a stage did.

    If a stage that guards fails, everything stands afterwards as it did before; if only a remote
    is out of reach, what the stage made stays, for the next run to share.
    """
    before = LOCK.read_bytes() if LOCK.exists() else None
    for step in steps:
        started = time.perf_counter()
        state = _as_task(step, bring)(return_state=True)
        seconds = time.perf_counter() - started
        if state.is_completed():
            rows.append(Row(step.name, state.result(), seconds))
            continue
        rows.append(Row(step.name, None, seconds))
        error = state.result(raise_on_failure=False)
        message = str(error)
        if step.guards and before is not None and not isinstance(error, RemoteError):
            graph.put_back(before, [row.stage for row in rows])
            message += f"\nall is as it was; what the stage wrote is in {FAILED / step.name}"
        return Failure(step.name, getattr(error, "kind", None), message)
    return None


def _as_task(step: Step, bring: Bring) -> Task[[], Any]:
    """Make the Prefect task of one stage; what it needs travels in the closure."""

    def bring_up_to_date() -> State[Done]:
        done = bring(step)
        name = "Completed" if done.ran else "Cached"
        return Completed(name=name, message=f"{done.outcome}: {done.output}", data=done)

    retries = max(step.retries, REMOTE_RETRIES)
    return task(
        name=step.name,
        task_run_name=step.name,
        retries=retries,
        retry_delay_seconds=RETRY_DELAYS_SECONDS[:retries],
        retry_condition_fn=_heals(step),
        cache_policy=NO_CACHE,
        persist_result=False,
    )(bring_up_to_date)


def _heals(step: Step) -> Callable[[Task[..., Any], Any, State[Any]], bool]:
    """Try again what trying can heal: a killed process once, an outside failure `retries` times.

    A remote that does not answer is outside, of whatever stage.
    """

    def condition(_task: Task[..., Any], run: Any, state: State[Any]) -> bool:
        error = state.result(raise_on_failure=False)
        if isinstance(error, RemoteError):
            return bool(error.may_pass and run.run_count <= max(step.retries, REMOTE_RETRIES))
        if not isinstance(error, CommandError):
            return False
        if error.killed:
            return bool(run.run_count <= 1)
        return bool(error.status == os.EX_TEMPFAIL and run.run_count <= step.retries)

    return condition
