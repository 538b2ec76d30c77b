"""Have a flow run that was preempted run again: the same one, so that it goes on where it was.

What is preempted is nobody's fault: the process was ended by a signal, its machine vanished, or it
ran where that is to be expected, in a deployment tagged `spot`. A run that dies again and again is
given up, whatever is to blame. A run that another run waits for is that one's to start again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import AwaitingRetry

from flows.automations import SILENCE

SPOT = "spot"
"""Tag of deployments whose machines may be taken away."""

MOST_RETRIES = 3
RETRIED = "Preempted, and scheduled again"
SIGNALLED = re.compile(
    rf"status code:? -\d|status code:? 1(3[0-9]|4[0-3])\b|termination signal|^{re.escape(SILENCE)}"
    "|system exit call"
)
"""What Prefect and we say of a process that a signal ended; 128 + n is how a shell says so. A flow
whose worker was killed exits, where it next logs to that worker: Rich ends a process for that."""


def revive(client: SyncPrefectClient, run: FlowRun) -> tuple[str, str]:
    """Schedule a dead run again if it was preempted; give its state's name, and why it is so."""
    if (reason := _reason_against(run, states := _states(client, run))) is not None:
        return run.state_name or "", reason
    message = f"{RETRIED}: {_retries(states) + 1} of {MOST_RETRIES} times"
    answer: Any = client.set_flow_run_state(run.id, AwaitingRetry(message=message))
    if answer.status == SetStateStatus.ACCEPT:
        return "AwaitingRetry", message
    return run.state_name or "", f"the server refused to schedule it: {answer.details}"


def _reason_against(run: FlowRun, states: Sequence[State[Any]]) -> str | None:
    """Say why a crashed run is not to run again; None if it is."""
    said = (run.state.message if run.state else None) or ""
    reasons = {
        "the run that started it decides": run.parent_task_run_id is not None,
        "it was started by hand: no worker can start it again": run.deployment_id is None,
        "it was being cancelled": _was_cancelled(states),
        f"it was not preempted: {said}": not SIGNALLED.search(said) and SPOT not in run.tags,
        f"given up: it died {MOST_RETRIES + 1} times": _retries(states) >= MOST_RETRIES,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _states(client: SyncPrefectClient, run: FlowRun) -> list[State[Any]]:
    states = client.read_flow_run_states(run.id)
    return sorted(states, key=lambda state: state.timestamp)


def _retries(states: Sequence[State[Any]]) -> int:
    return sum((state.message or "").startswith(RETRIED) for state in states)


def _was_cancelled(states: Sequence[State[Any]]) -> bool:
    """Tell whether somebody had asked for an end of the last attempt."""
    kinds = [state.type for state in states]
    last = max((at for at, kind in enumerate(kinds) if kind == StateType.SCHEDULED), default=0)
    return StateType.CANCELLING in kinds[last:]
