"""What tells that a flow run is alive or dead.

Alive is whoever has a process on this machine that says so, whatever the server believes. Dead is
who has none here and has been silent for too long: Prefect records no host, so that no process here
proves nothing by itself. Whoever never gave a sign and was started by hand may have been told not
to: that is no evidence, and such a run is left alone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

from flows.automations import HEARTBEAT, WINDOW_SECONDS
from flows.process import GRACE_SECONDS
from flows.system.settings import POOLS

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
"""Variable by which a worker tells a process which run it is; what a run starts inherits it."""
ENGINE = "prefect.engine"

SLOWEST_SECONDS = 180.0
"""Between two signs of life of a run of which only one was seen: Prefect's own frequency."""
MISSABLE = 2.5
"""How many signs may be missing of a run whose frequency is its own affair."""
LISTENING_SECONDS, POLLING_SECONDS = 32.0, 1.0
"""How long to listen before a silent run is started again: if it lives, a sign is due by then."""
PENDING_SECONDS = 900.0
"""How long a process of our pools may take to start: it clones a repository, on a busy machine."""


def is_at_work(run: FlowRun) -> bool:
    """Tell whether the process of a run is alive on this machine."""
    return any(_is_engine(process, run) for process in _processes(run))


def is_dead(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Tell whether a run that the server takes for active has been silent for too long."""
    if run.state is None or is_at_work(run):
        return False
    since, is_ours = run.state.timestamp, run.work_pool_name in POOLS
    if run.state.is_pending():
        return is_ours and _age(since) > PENDING_SECONDS
    beats = _beats(client, run)
    if not beats and not is_ours:
        return False
    return _age(max([since, *beats])) > window(beats, is_ours=is_ours)


def window(beats: Sequence[datetime], *, is_ours: bool) -> float:
    """Give the seconds for which a run may be silent that gave these signs, the newest first."""
    if is_ours:
        return WINDOW_SECONDS
    newest, *before = beats
    interval = (newest - before[0]).total_seconds() if before else SLOWEST_SECONDS
    return max(WINDOW_SECONDS, MISSABLE * interval)


def is_heard(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Tell whether a run that was ended for its silence lives after all; listens for a while.

    What it said while the server was away, or restarted, comes late.
    """
    said = run.state.timestamp if run.state else datetime.now(UTC)
    while not is_at_work(run):
        beats = _beats(client, run)
        if beats and (said - beats[0]).total_seconds() < WINDOW_SECONDS:
            return True
        if _age(said) > LISTENING_SECONDS:
            return False
        time.sleep(POLLING_SECONDS)
    return True


def end_what_is_left(run: FlowRun) -> list[str]:
    """End what a dead run has started on this machine and left behind; name it.

    A flow that has said its last word may be about to end. A stage that is asked to stop first
    keeps a checkpoint, from which the next attempt goes on.
    """
    import psutil  # type: ignore[import-untyped]

    left = list(_processes(run))
    if any(_is_engine(process, run) for process in left):
        left = psutil.wait_procs(left, timeout=GRACE_SECONDS)[1]
    ended = [f"process {process.pid}" for process in left]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        left = psutil.wait_procs(left, timeout=GRACE_SECONDS)[1]
    return ended


def _processes(run: FlowRun) -> Iterator[Any]:
    """Give the processes of this machine that were started for a run, or by it."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_its_own = process.environ().get(FLOW_RUN) == str(run.id)
            if is_its_own and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _is_engine(process: Any, run: FlowRun) -> bool:
    import psutil

    with suppress(psutil.Error):
        return str(process.pid) == run.infrastructure_pid or ENGINE in process.cmdline()
    return False


def _beats(client: SyncPrefectClient, run: FlowRun) -> list[datetime]:
    """Give the times of the last two signs of life, the newest first."""
    resource = EventResourceFilter(id=[f"prefect.flow-run.{run.id}"])
    wanted = EventFilter(event=EventNameFilter(name=[HEARTBEAT]), resource=resource)
    return [event.occurred for event in client.read_events(wanted, limit=2).events]


def _age(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()
