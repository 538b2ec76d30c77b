"""The training flow: DVC's graph, walked stage by stage, with a Prefect task run for each.

A stage that DVC knows to be up to date, or finds in its run cache, ends in the state Cached and
starts no process. Every other stage runs its own command. Afterwards `dvc status` is clean, as
after `dvc repro`; if the data itself was refused, everything stands as it did before.

    python -m flows train
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.states import Completed, Failed

from flows import preflight, report
from flows.graph import Done, Graph, Step
from flows.live import Live
from flows.progress import Progress
from flows.report import Row
from flows.walk import walk
from tasks import lineage, tracking
from tasks.errors import TemporaryError, VerbatimError
from tasks.store import Record


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
        bring = partial(_bring, graph, force=force, find=find, live=live)
        failure = walk(graph, graph.steps, rows, bring)
    record = None
    with suppress(TemporaryError):  # a store out of reach, of which `register` has complained
        record = find()
    result = report.Result(name, register.model_name, rows, record)
    report.publish(result)
    report.show(result)
    return Failed(message=failure) if failure else Completed(message=report.summary(rows))


def _bring(
    graph: Graph, step: Step, *, force: bool, find: Callable[[], Record | None], live: Live
) -> Done:
    """Bring a stage up to date, and record the result again if the store has lost it."""
    log = get_run_logger()
    with live.during(step.name), Progress(step.name, log, also=live.line) as progress:
        done = graph.bring_up_to_date(step, progress.line, force=force)
        if step.name == lineage.LAST and not done.ran and not _complete(find()):
            progress.line("the MLflow store does not hold this result: recording it again")
            done = graph.bring_up_to_date(step, progress.line, force=True)
        return done


def _complete(record: Record | None) -> bool:
    return record is not None and record.complete
