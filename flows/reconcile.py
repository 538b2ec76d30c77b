"""The flow `reconcile`: close what dead runs left open, and have what was preempted run again.

Prefect marks a silent run as Crashed (`flows.automations`) and no more. Its task runs, the flows it
called, its runs in MLflow and its trials in Optuna stay open; this closes them. A run of a
deployment tagged `spot`, and any that a signal ended, is then scheduled anew: the same flow run,
which goes on from its checkpoint, three times at most. The living are never touched, and of two
that reconcile at once the second waits and finds nothing left to do.

    python -m flows reconcile
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import State, flow
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run as this_run
from prefect.states import Completed, Failed, Running
from rich.console import Console
from rich.table import Table

from flows.dead import closing, evidence, finding, left_open, reviving
from tasks.errors import TemporaryError, VerbatimError

LIMIT, LEASE_SECONDS, PATIENCE_SECONDS = "reconcile", 60.0, 300.0
"""The concurrency limit that lets one reconcile at a time; one that was killed loses it soon."""

ALIVE = "its process is alive, and was silent, as when the server is away for long"
COLUMNS = ("what", "was", "is", "closed with it", "why")


@dataclass
class Row:
    """What was done to a flow run, or to what dead processes left open elsewhere."""

    name: str
    was: str
    now: str
    why: str
    closed: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        """Give the cells of the table."""
        return self.name, self.was, self.now, ", ".join(self.closed) or "-", self.why


def run_name() -> str:
    """Name the run by what it looks at."""
    return f"reconcile {this_run.parameters.get('flow_run_id') or 'all'}"


@flow(name="reconcile", flow_run_name=run_name, persist_result=False)
def reconcile(flow_run_id: UUID | None = None) -> State[Any]:
    """Close what dead flow runs left open, and have preempted ones run again.

    flow_run_id  the one to look at; all of the server if there is none
    """
    try:
        with get_client(sync_client=True) as client, alone(client):
            dead = finding.dead_runs(client, flow_run_id)
            ended = [closing.end(client, run) for run in dead]  # all, as each is listened for
            rows = [
                row for pair in zip(dead, ended, strict=True) if (row := _settle(client, *pair))
            ]
            names = {run.name for run in dead}
            closed = left_open.close(names - finding.at_work(client, names))
            rows += [Row(*each) for each in closed]
    except VerbatimError as error:
        return Failed(message=str(error))
    show(rows)
    return Completed(message=f"{len(rows)} reconciled" if rows else "nothing was left open")


@contextmanager
def alone(client: SyncPrefectClient) -> Iterator[None]:
    """Wait until no other reconcile is at work on this server.

    Raises TemporaryError after PATIENCE_SECONDS.
    """
    client.upsert_global_concurrency_limit_by_name(LIMIT, 1)
    turn = concurrency(
        LIMIT, timeout_seconds=PATIENCE_SECONDS, lease_duration=LEASE_SECONDS, strict=True
    )
    with ExitStack() as stack:
        try:
            stack.enter_context(turn)
        except TimeoutError as error:
            raise TemporaryError(
                f"reconcile: no other must be at work (got one for {PATIENCE_SECONDS:.0f} seconds)"
                "\nnext: python -m flows reconcile, later"
            ) from error
        yield


def _settle(client: SyncPrefectClient, before: FlowRun, run: FlowRun) -> Row | None:
    """Close what one dead run left open, and have it run again; None if all was done before."""
    row = Row(run.name, before.state_name or "", run.state_name or "", "")
    if run.state_type not in closing.ENDED:
        return None  # it has ended by itself meanwhile
    if closing.was_silent(run) and evidence.is_heard(client, run):
        client.set_flow_run_state(run.id, Running(message=ALIVE), force=True)
        return Row(run.name, row.was, "Running", ALIVE)
    row.closed += evidence.end_what_is_left(run)
    row.closed += closing.close_below(client, run)
    row.now, row.why = reviving.revive(client, run)
    return row if row.closed or row.now != row.was else None


def show(rows: list[Row]) -> None:
    """Print what was closed, and keep it with the flow run."""
    console = Console(soft_wrap=True)
    if not rows:
        console.print("nothing was left open")
        return
    table = Table(*COLUMNS, title="reconciled")
    for row in rows:
        table.add_row(*row.cells())
    console.print(table, markup=False)
    kept = [dict(zip(COLUMNS, row.cells(), strict=True)) for row in rows]
    create_table_artifact(kept, key="reconciled", description="What dead runs had left open")
