"""Find the flow runs of a server that are dead, and those that are not."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.dead import evidence
from tasks.errors import StageError

ACTIVE = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
HOURS_BACK = 24.0
"""How old a crash may be that is looked at again when no run is named."""
PAGE = 200


def dead_runs(client: SyncPrefectClient, flow_run_id: UUID | None) -> list[FlowRun]:
    """Give the run that is named, or all, as far as they crashed or are silent for too long.

    Raises StageError if the one that is named is not there.
    """
    suspects = _all_suspects(client) if flow_run_id is None else [_named(client, flow_run_id)]
    return [run for run in suspects if _is_dead(client, run)]


def _named(client: SyncPrefectClient, flow_run_id: UUID) -> FlowRun:
    try:
        return client.read_flow_run(flow_run_id)
    except ObjectNotFound as error:
        raise StageError(
            f"reconcile: must be a flow run of this server (got {flow_run_id})\n"
            "next: prefect flow-run ls"
        ) from error


def _all_suspects(client: SyncPrefectClient) -> list[FlowRun]:
    begin = datetime.now(UTC) - timedelta(hours=HOURS_BACK)
    since = FlowRunFilterEndTime.model_validate({"after_": begin})
    crashed = FlowRunFilter(end_time=since, state=_in([StateType.CRASHED]))
    return [*_read(client, FlowRunFilter(state=_in(ACTIVE))), *_read(client, crashed)]


def _is_dead(client: SyncPrefectClient, run: FlowRun) -> bool:
    is_crashed = run.state_type == StateType.CRASHED
    return is_crashed or (run.state_type in ACTIVE and evidence.is_dead(client, run))


def at_work(client: SyncPrefectClient, names: Collection[str]) -> set[str]:
    """Give those of some names that active runs bear; what else bears them may be theirs."""
    if not names:
        return set()
    wanted = FlowRunFilter(name=FlowRunFilterName(any_=sorted(names)), state=_in(ACTIVE))
    return {run.name for run in _read(client, wanted)}


def _in(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _read(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    """Read all pages, the oldest run first, so that a new one does not move the others."""
    found: list[FlowRun] = []
    while page := client.read_flow_runs(
        flow_run_filter=wanted, sort=FlowRunSort.START_TIME_ASC, limit=PAGE, offset=len(found)
    ):
        found += page
    return found
