"""What the Prefect server does by itself about runs that died, as code: created or updated by name.

A flow run gives a sign of life every 30 seconds (`PREFECT_FLOWS_HEARTBEAT_FREQUENCY`, which may not
be less). Prefect's own server marks nothing when the signs stop: the first automation does, and the
second has `flows.reconcile` tidy up. Only runs of our own work pools are judged, because only of
them the frequency is known: by default it is 180 seconds, and a window below that kills the living.
A server that was away for longer than the window finds everybody silent: `flows.reconcile` sets
right whoever lives.

    python -m flows prepare
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.automations import (
    Automation,
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    RunDeployment,
)
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from flows.system.settings import POOLS
from tasks.errors import StageError

HEARTBEAT, CRASHED = "prefect.flow-run.heartbeat", "prefect.flow-run.Crashed"
WINDOW_SECONDS = 75.0
"""How long a run may be silent: two signs may be late, as when the server is started anew."""

AT_REST = ("Completed", "Cached", "Failed", "Cancelled", "Paused", "Suspended", "Scheduled", "Late")
"""States in which no sign of life is due; Crashed and AwaitingRetry are added where they count."""

SILENCE = "No sign of life"
"""How the message of a state begins that a silent run is given: what it is known by afterwards."""
SILENT = f"{SILENCE} for {WINDOW_SECONDS:.0f} seconds: its process, or the machine, was killed"

Labels = dict[str, str | list[str]]

FLOW_RUN_ID = {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}
"""The id as text: a template alone would be made into JSON, which Prefect fails to do with it."""
DEPLOYMENT = "reconcile/crashed"


def apply() -> list[str]:
    """Have the server hold both automations as they stand here; say what was done to each.

    What is as it should be is left alone: to replace a trigger is to forget whom it watches.
    Raises StageError if the deployment `reconcile/crashed` is not there.
    """
    with get_client(sync_client=True) as client:
        return [_settle(client, wanted) for wanted in (silence(), reconciling(_deployment(client)))]


def silence() -> AutomationCore:
    """Describe the automation that marks a silent run as Crashed.

    A run is watched from its start, anew from each sign of life, and until it comes to rest.
    """
    crash = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=SILENT, force=False)
    finals = {f"prefect.flow-run.{name}" for name in (*AT_REST, "Crashed", "AwaitingRetry")}
    return AutomationCore(
        name="a run whose heartbeat is missing is Crashed",
        description=f"A run of {' or '.join(POOLS)} that gave no sign of life in time.",
        enabled=True,
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_ours(),
            for_each={"prefect.resource.id"},
            after={HEARTBEAT, "prefect.flow-run.Running"},
            expect={HEARTBEAT, *finals},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=WINDOW_SECONDS),
        ),
        actions=[crash],
    )


def reconciling(deployment_id: Any) -> AutomationCore:
    """Describe the automation that has a crashed run reconciled, but for the reconciling itself."""
    other: Labels = {"prefect.resource.role": "flow", "prefect.resource.name": "!reconcile"}
    return AutomationCore(
        name="a crashed run is reconciled",
        description="What a crashed run left open is closed, and what was preempted runs again.",
        enabled=True,
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=[_ours(), other],
            for_each={"prefect.resource.id"},
            expect={CRASHED},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment_id,
                job_variables=None,
                parameters={"flow_run_id": FLOW_RUN_ID},
            )
        ],
    )


def _ours() -> Labels:
    return {"prefect.resource.role": "work-pool", "prefect.resource.name": list(POOLS)}


def _deployment(client: SyncPrefectClient) -> Any:
    try:
        return client.read_deployment_by_name(DEPLOYMENT).id
    except ObjectNotFound as error:
        raise StageError(
            f"automations: the deployment {DEPLOYMENT} must be on the Prefect server (got none)\n"
            "next: prefect deploy --all"
        ) from error


def _settle(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    """Create an automation, or update it where it differs; one that bears its name twice goes."""
    found: list[Any] = client.read_automations_by_name(wanted.name)
    if not found:
        client.create_automation(wanted)
        return f"created: {wanted.name}"
    for double in found[1:]:
        client.delete_automation(double.id)
    if _content(found[0]) == _content(wanted):
        return f"unchanged: {wanted.name}"
    client.update_automation(found[0].id, wanted)
    return f"updated: {wanted.name}"


def _content(automation: Automation | AutomationCore) -> dict[str, Any]:
    return automation.model_dump(include=set(AutomationCore.model_fields))
