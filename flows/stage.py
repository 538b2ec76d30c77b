"""The flow `stage`: one stage of another run, computed on the pool that this one runs on.

It is not for people: the flow `training` starts it, see `flows.elsewhere`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.states import Completed, Failed

from flows import report, workspace
from flows.graph import Done, Graph, Step
from flows.progress import Progress
from flows.report import Row
from flows.training import AS_IN_PARAMS, settle
from flows.walk import walk
from tasks.errors import StageError, VerbatimError
from tasks.params import FILE as PARAMS


@flow(name="stage", persist_result=False)
def stage(
    *,
    name: str,
    run: str,
    commit: str,
    key: str,
    params: str,
    force: bool = False,
) -> State[Any]:
    """Compute a stage and share it; what comes before is found on DVC's remote.

    name    of the stage
    run     that asks for it
    commit  the commit it works at, and `key` its lineage key
    params  the text of params.yaml
    force   compute it even if its result is known
    """
    rows = list[Row]()
    try:
        workspace.go_to(commit)
        PARAMS.write_text(params, encoding="utf-8")
        plan = settle(AS_IN_PARAMS)
        if plan.origin.key != key:
            raise StageError(f"{run}: must have the lineage {key} here too (got {plan.origin.key})")
        steps = list(_up_to(name, plan.graph))
        failure = walk(plan.graph, steps, rows, partial(_bring, plan.graph, name, force=force))
    except VerbatimError as error:
        return Failed(message=str(error))
    return Failed(message=failure.message) if failure else Completed(message=report.summary(rows))


def _up_to(name: str, graph: Graph) -> Iterator[Step]:
    for step in graph.steps:
        yield step
        if step.name == name:
            return


def _bring(graph: Graph, name: str, step: Step, *, force: bool) -> Done:
    with Progress(step.name, get_run_logger()) as progress:
        return graph.bring_up_to_date(step, progress.line, force=force and step.name == name)
