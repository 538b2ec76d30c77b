"""What the Prefect server does by itself, as code: automations, created or updated by name.

A flow run gives a sign of life every 30 seconds (`PREFECT_FLOWS_HEARTBEAT_FREQUENCY`, which may not
be less). Prefect's own server marks nothing when the signs stop: the first automation does, and the
second has `flows.reconcile` tidy up. Only runs of our own work pools are judged, because only of
them the frequency is known: by default it is 180 seconds, and a window below that kills the living.
A server that was away for longer than the window finds everybody silent: `flows.reconcile` sets
right whoever lives. The third trains anew when `flows.monitor` tells of drift.

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

AT_WORK = ("Running", "Retrying")
"""States in which a sign of life is due: Prefect's own names, as flows name only how they end. A
run that is being cancelled can become nothing but Cancelled: the server refuses Crashed."""

SILENCE = "No sign of life"
"""How the message of a state begins that a silent run is given: what it is known by afterwards."""
SILENT = f"{SILENCE} for {WINDOW_SECONDS:.0f} seconds: its process, or the machine, was killed"

Labels = dict[str, str | list[str]]

FLOW_RUN_ID = {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}
"""The id as text: a template alone would be made into JSON, which Prefect fails to do with it."""
DEPLOYMENT, NIGHTLY = "reconcile/crashed", "training/nightly"

DRIFTED = "verbatim.model.drifted"
"""The event that `flows.monitor` emits: its resource is the model, its payload what crossed."""


def apply() -> list[str]:
    """Have the server hold the automations as they stand here; say what was done to each.

    What is as it should be is left alone: to replace a trigger is to forget whom it watches.
    Raises StageError if a deployment that they run is not there.
    """
    with get_client(sync_client=True) as client:
        wanted = [
            silence(),
            reconciling(_deployment(client)),
            retraining(_deployment(client, NIGHTLY)),
        ]
        return [settle(client, each) for each in wanted]


def silence() -> AutomationCore:
    """Describe the automation that marks a silent run as Crashed.

    A run is watched while it is at work, anew from each sign of life; any other event of it is one
    that it has come to rest, so that no state of that kind, whatever its name, is taken for death.
    """
    crash = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=SILENT, force=False)
    return AutomationCore(
        name="a run whose heartbeat is missing is Crashed",
        description=f"A run of {' or '.join(POOLS)} that gave no sign of life in time.",
        enabled=True,
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=ours(),
            for_each={"prefect.resource.id"},
            after={HEARTBEAT, *(f"prefect.flow-run.{name}" for name in AT_WORK)},
            expect={"prefect.flow-run.*"},
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
            match_related=[ours(), other],
            for_each={"prefect.resource.id"},
            expect={CRASHED},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[_start(deployment_id, {"flow_run_id": FLOW_RUN_ID})],
    )


def retraining(deployment_id: Any) -> AutomationCore:
    """Describe the automation that trains at once when a model's world has drifted."""
    return AutomationCore(
        name="a model whose world has drifted is trained again",
        description="The flow `monitor` tells of a threshold once, so it starts one retrain.",
        enabled=True,
        trigger=EventTrigger(
            match={"prefect.resource.id": "verbatim.model.*"},
            for_each={"prefect.resource.id"},
            expect={DRIFTED},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[_start(deployment_id, None)],  # with the parameters of the deployment
    )


def _start(deployment_id: Any, parameters: dict[str, Any] | None) -> RunDeployment:
    return RunDeployment(
        source="selected",
        deployment_id=deployment_id,
        job_variables=None,
        parameters=parameters,
    )


def ours() -> Labels:
    """Match runs of our own work pools."""
    return {"prefect.resource.role": "work-pool", "prefect.resource.name": list(POOLS)}


def _deployment(client: SyncPrefectClient, name: str = DEPLOYMENT) -> Any:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound as error:
        raise StageError(
            f"automations: the deployment {name} must be on the Prefect server (got none)\n"
            "next: prefect deploy --all"
        ) from error


def settle(client: SyncPrefectClient, wanted: AutomationCore, *, may_be_off: bool = False) -> str:
    """Create an automation, or update it where it differs; one that bears its name twice goes.

    may_be_off  leave it off if somebody has switched it off
    """
    found: list[Any] = client.read_automations_by_name(wanted.name)
    if found and may_be_off:
        wanted = wanted.model_copy(update={"enabled": found[0].enabled})
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
