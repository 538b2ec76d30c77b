"""Close what the Prefect server holds of a dead flow run: its state, task runs and inner runs.

All is done by Prefect's own rules, which refuse to call a run Crashed that has ended meanwhile.
Only task runs are forced: nobody but the dead process would have ended them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Cancelled, Crashed

from flows.automations import SILENCE, SILENT

OPEN = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.CANCELLING]
ENDED = (StateType.CRASHED, StateType.CANCELLED)
"""What a dead run is called."""
WITH_ITS_FLOW = "The flow run that it belonged to died"
PAGE = 200


def end(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Mark a silent run as Crashed, or Cancelled if that was asked for; give it as it is then.

    A run that has ended before stays as it is.
    """
    if run.state is None or run.state.is_final():
        return run
    end = Cancelled if run.state.is_cancelling() else Crashed
    wanted: State[Any] = end(message=SILENT)
    client.set_flow_run_state(run.id, wanted)
    return client.read_flow_run(run.id)


def was_silent(run: FlowRun) -> bool:
    """Tell whether a run was ended because it gave no sign of life."""
    said = (run.state.message if run.state else None) or ""
    return run.state_type in ENDED and said.startswith(SILENCE)


def close_below(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    """Mark all as Crashed that was at work in a dead run; name it.

    A run that another worker carries out, as `run_deployment` starts it, lives on its own.
    """
    closed = []
    for inner in _inner(client, run):
        closed += close_below(client, inner)
        if inner.state_type in OPEN and _crash(client, inner):
            closed.append(inner.name)
    for task_run in _task_runs(client, run):
        client.set_task_run_state(task_run.id, Crashed(message=WITH_ITS_FLOW), force=True)
        closed.append(task_run.name)
    return closed


def _crash(client: SyncPrefectClient, run: FlowRun) -> bool:
    answer: Any = client.set_flow_run_state(run.id, Crashed(message=WITH_ITS_FLOW))
    return bool(answer.status == SetStateStatus.ACCEPT)


def _inner(client: SyncPrefectClient, run: FlowRun) -> Iterator[FlowRun]:
    wanted = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    found = client.read_flow_runs(flow_run_filter=wanted, limit=PAGE)
    return (inner for inner in found if inner.deployment_id is None)


def _task_runs(client: SyncPrefectClient, run: FlowRun) -> list[TaskRun]:
    """Give the task runs of a run that have not ended; closed ones leave the page to others."""
    wanted = TaskRunFilter(
        flow_run_id=TaskRunFilterFlowRunId(any_=[run.id]),
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=OPEN)),
    )
    return client.read_task_runs(task_run_filter=wanted, limit=PAGE)
