"""Have one stage computed on another work pool, such as that of the machines with GPUs.

The flow `stage` runs there, in a clone of the same commit with the same `params.yaml`. Nothing but
DVC's remote hands results over: what comes before the stage is found there, and so is, afterwards,
what the stage made.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows import placement
from flows.placement import Placement
from tasks.errors import StageError

POLL_SECONDS = 1.0
MOST_TRIES = 3
"""How often it is begun there, if the machine is taken away: it goes on from its checkpoint."""


@dataclass(frozen=True)
class Origin:
    """What a stage is computed from: all that makes the clone there the same as the one here.

    name    of the run that asks
    commit  that was cloned here
    key     the lineage key that must come out there
    params  the text of params.yaml
    """

    name: str
    commit: str
    key: str
    params: str


def is_there(pool: str) -> bool:
    """Tell whether stages can be sent to a pool: it is deployed to, and not paused.

    A worker must have served it once. It may have stopped since, until runs wait for one.
    """
    name = f"{pool}-pool"
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(f"stage/{pool}")
            is_paused = client.read_work_pool(name).is_paused
            return not is_paused and bool(client.read_workers_for_work_pool(name))
        except ObjectNotFound:
            return False


def check(pool: str, machine: Placement) -> None:
    """Raise ParamsError if a pool has no such machines."""
    placement.job_variables(machine, placement.pool(f"{pool}-pool"))


def compute(
    stage: str, pool: str, origin: Origin, machine: Placement, *, force: bool = False
) -> None:
    """Wait until the stage was computed there, whose machine may be taken away meanwhile.

    Raises StageError if it was not, ParamsError if the pool has no such machines.
    """
    name = f"{pool}-pool"
    parameters = {
        "name": stage,
        "run": origin.name,
        "commit": origin.commit,
        "key": origin.key,
        "params": origin.params,
        "force": force,
    }
    variables = placement.job_variables(machine, placement.pool(name))
    minutes = machine.time_limit_minutes
    end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    for _ in range(MOST_TRIES):
        run = _run(f"stage/{pool}", f"{stage}-of-{origin.name}", parameters, variables)
        if run.state is not None and run.state.is_completed():
            return
        if run.state is None or not run.state.is_crashed() or time.monotonic() > end:
            break
    state, said = (run.state.name, run.state.message) if run.state else ("no state", "")
    raise StageError(
        f"{stage}: must be computed on {name} (got {state}: {said})\n"
        f"next: see the run {run.name} in Prefect"
    )


def _run(
    deployment: str, name: str, parameters: Mapping[str, Any], variables: Mapping[str, Any]
) -> FlowRun:
    found = run_deployment(
        deployment,
        parameters=dict(parameters),
        flow_run_name=name,
        job_variables=dict(variables),
        poll_interval=POLL_SECONDS,
        as_subflow=True,
    )
    return cast(FlowRun, found)  # and no coroutine, as nothing waits for one here
