"""The training flow: DVC's graph, walked stage by stage, with a Prefect task run for each.

A stage that DVC knows to be up to date, or finds in its run cache, ends in the state Cached and
starts no process. Every other stage runs its own command. Afterwards `dvc status` is clean, as
after `dvc repro`; if the data itself was refused, everything stands as it did before.

    python -m flows train
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prefect import State, Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from flows import preflight, report
from flows.graph import FAILED, LOCK, Done, Graph, Step
from flows.live import Live
from flows.process import CommandError
from flows.progress import Progress
from flows.report import Row
from tasks import lineage, tracking
from tasks.errors import TemporaryError, VerbatimError
from tasks.store import Record

RETRY_DELAYS_SECONDS = [2.0, 10.0, 60.0]


def run_name() -> str:
    """Name the run by what it will compute; by the flow alone if params.yaml is wrong."""
    try:
        values = preflight.check()
        return _name(values, Graph().lineage())
    except VerbatimError:
        return "training"


def _name(values: dict[str, Any], origin: lineage.Lineage) -> str:
    return lineage.run_name(values["register"].intent, values["model"], origin)


@flow(name="training", flow_run_name=run_name, persist_result=False)
def training(*, force: bool = False) -> State[Any]:
    """Bring the model of this checkout up to date and register it.

    force  run every stage, even those whose result is known
    """
    try:
        values = preflight.check()
        graph = Graph()
        origin = graph.lineage()
    except VerbatimError as error:
        return Failed(message=str(error))
    register = values["register"]

    def find() -> Record | None:
        return tracking.find(
            origin.key,
            experiment=register.experiment,
            model_name=register.model_name,
            alias=register.stage,
        )

    name, rows = _name(values, origin), list[Row]()
    experiment = register.experiment
    with Live(name, experiment=experiment, key=origin.key, log=get_run_logger()) as live:
        failure = _walk(graph, rows, force=force, find=find, live=live)
    record = None
    with suppress(TemporaryError):  # a store out of reach, of which `register` has complained
        record = find()
    result = report.Result(name, register.model_name, rows, record)
    report.publish(result)
    report.show(result)
    return Failed(message=failure) if failure else Completed(message=report.summary(rows))


def _walk(
    graph: Graph, rows: list[Row], *, force: bool, find: Callable[[], Record | None], live: Live
) -> str | None:
    """Bring each stage up to date, adding a row for it; give the reason of the first failure."""
    before = LOCK.read_bytes() if LOCK.exists() else None
    for step in graph.steps:
        started = time.perf_counter()
        with live.during(step.name):
            state = _as_task(graph, step, force=force, find=find, live=live)(return_state=True)
        seconds = time.perf_counter() - started
        if state.is_completed():
            rows.append(Row(step.name, state.result(), seconds))
            continue
        rows.append(Row(step.name, None, seconds))
        failure = str(state.result(raise_on_failure=False))
        if step.guards and before is not None:
            graph.put_back(before, [row.stage for row in rows])
            failure += f"\nall is as it was; what the stage wrote is in {FAILED / step.name}"
        return failure
    return None


def _as_task(
    graph: Graph, step: Step, *, force: bool, find: Callable[[], Record | None], live: Live
) -> Task[[], Any]:
    """Make the Prefect task of one stage; the graph travels in the closure, not as an argument."""

    def bring_up_to_date() -> State[Done]:
        with Progress(step.name, get_run_logger(), also=live.line) as progress:
            done = graph.bring_up_to_date(step, progress.line, force=force)
            if step.name == lineage.LAST and not done.ran and not _complete(find()):
                progress.line("the MLflow store does not hold this result: recording it again")
                done = graph.bring_up_to_date(step, progress.line, force=True)
        name = "Completed" if done.ran else "Cached"
        return Completed(name=name, message=done.output, data=done)

    return task(
        name=step.name,
        task_run_name=step.name,
        retries=max(step.retries, 1),
        retry_delay_seconds=RETRY_DELAYS_SECONDS[: max(step.retries, 1)],
        retry_condition_fn=_heals(step),
        cache_policy=NO_CACHE,
        persist_result=False,
    )(bring_up_to_date)


def _complete(record: Record | None) -> bool:
    return record is not None and record.complete


def _heals(step: Step) -> Callable[[Task[..., Any], Any, State[Any]], bool]:
    """Try again what trying can heal: a killed process once, an outside failure `retries` times."""

    def condition(_task: Task[..., Any], run: Any, state: State[Any]) -> bool:
        error = state.result(raise_on_failure=False)
        if not isinstance(error, CommandError):
            return False
        if error.killed:
            return bool(run.run_count <= 1)
        return bool(error.status == os.EX_TEMPFAIL and run.run_count <= step.retries)

    return condition
