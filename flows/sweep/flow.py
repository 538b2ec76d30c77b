"""The flow `sweep`: search the hyperparameters of the learner that `model` names.

What comes before training is brought up to date as `train` does it. Then trials run until
`sweep.n_trials` have finished, over all commands: a sweep that was cut off goes on where it was. It
ends with a proposal; `params.yaml` disposes.

    python -m flows sweep
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, runtime
from prefect.states import Completed, Failed

from flows import preflight, process, workspace
from flows.form import SweepOverrides, settings
from flows.graph import Done, Graph, Step
from flows.live import Log
from flows.progress import Progress
from flows.report import Row
from flows.sweep.board import Board
from flows.sweep.driver import Driver
from flows.sweep.engines import Engine, InProcess, Processes
from flows.sweep.mirror import Mirror, Subject
from flows.sweep.plan import TRAINING, Plan, plan
from flows.sweep.proposal import Proposal, propose
from flows.sweep.report import Report
from flows.sweep.scores import Scores
from flows.sweep.storage import reachable
from flows.sweep.study import Search
from flows.training import training
from flows.walk import walk
from tasks import lineage, params, store, tracking
from tasks.errors import VerbatimError

FEATURIZED = Path("data/featurize")
INTENT = "hyperparameter-search"
"""Of the run that trains with what was found."""


AS_IN_PARAMS = SweepOverrides()


def run_name() -> str:
    """Name the run by what it will compute; by the flow alone if params.yaml is wrong."""
    given = runtime.flow_run.parameters.get("overrides", {})
    try:
        return _planned(SweepOverrides.model_validate(given))[2].name
    except VerbatimError:
        return "sweep"


def _planned(overrides: SweepOverrides) -> tuple[dict[str, Any], Graph, Plan]:
    preflight.override(settings(overrides))
    values, graph = preflight.check(needed=("sweep",)), Graph()
    return values, graph, plan(values, graph.lineage().causes)


@flow(name="sweep", flow_run_name=run_name, persist_result=False)
def sweep(
    *, overrides: SweepOverrides = AS_IN_PARAMS, apply: bool = False, train: bool = False
) -> State[Any]:
    """Search hyperparameters, and propose the best.

    overrides  parameters for this run; what is left empty is as in params.yaml
    apply      write what was found into params.yaml
    train      write it, and run the whole pipeline with it
    """
    try:
        values, graph, planned = _planned(overrides)
        if failure := _prepare(graph):
            return Failed(message=failure)
        pins = process.pin(params.load().get("pins", ""))
        experiment = values["register"].experiment
        log, also = get_run_logger(), [f"register.intent={INTENT}"] if train else []
        with reachable(planned.conditions.storage):
            found = _search(planned, experiment, log, pins, apply=apply or train, also=also)
        proposed, run_id = found
        is_pinned = values["register"].intent == INTENT  # by a command that was cut off
        if train and (proposed.is_better or is_pinned):
            return _train(planned.name, run_id)
        if apply and workspace.is_own():
            workspace.keep(planned.name)
    except VerbatimError as error:
        return Failed(message=str(error))
    return Completed(message=proposed.verdict)


def _prepare(graph: Graph) -> str | None:
    """Bring all that comes before the training up to date; give the reason of a failure."""

    def bring(step: Step) -> Done:
        with Progress(step.name, get_run_logger()) as progress:
            return graph.bring_up_to_date(step, progress.line)

    before = list(takewhile(lambda step: step.name != TRAINING, graph.steps))
    failure = walk(graph, before, list[Row](), bring)
    return failure.message if failure else None


def _search(
    planned: Plan,
    experiment: str,
    log: Log,
    pins: Mapping[str, str],
    *,
    apply: bool,
    also: list[str],
) -> tuple[Proposal, str | None]:
    """Run the missing trials; give the proposal, and the id of the MLflow run if there is one."""
    search, scores = Search(planned), Scores(planned.name)
    log.info("%s", search.greeting())
    search.begin()
    subject = Subject(planned.name, planned.conditions.storage, experiment, search.process)
    with Mirror(subject, log) as mirror:
        with ExitStack() as stack:
            board = stack.enter_context(Board(planned, search, log))
            # MLflow first: a Prefect server that Ctrl-C has ended is waited for in vain.
            told = (lambda _: mirror.nudge(), board.told)
            driver = stack.enter_context(Driver(planned, search, scores, told=told))
            engine = stack.enter_context(_engine(planned, pins))
            driver.run(engine)
            proposed = propose(planned, search, scores, engine, featurize_folder=FEATURIZED)
        report = Report(planned, search, proposed)
        run_id = mirror.finish(report.summary())
    is_applied = apply and proposed.is_better
    if is_applied:
        preflight.override([*proposed.settings, *also])
    report.publish()
    report.show(run_id=run_id, applied=is_applied)
    return proposed, run_id


def _engine(planned: Plan, pins: Mapping[str, str]) -> Engine:
    workers = planned.sweep.workers
    if planned.sweep.engine == "ray":
        from flows.sweep.cluster import OnRay

        return OnRay(planned.conditions, planned.sweep, FEATURIZED, pins)
    if workers == 1:
        return InProcess(planned.conditions, FEATURIZED)
    return Processes(planned.conditions, FEATURIZED, workers)


def _train(sweep_name: str, sweep_run_id: str | None) -> State[Any]:
    """Run the pipeline as a run of its own that names the sweep it comes from."""
    state = training(return_state=True)
    values, origin = preflight.check(), Graph().lineage()
    register = values["register"]
    names = {"experiment": register.experiment, "model_name": register.model_name}
    if record := tracking.find(origin.key, **names, alias=register.stage):
        name = lineage.run_name(INTENT, values["model"], origin)
        tags = {"sweep": sweep_name, "sweep_run_id": sweep_run_id or ""}
        with store.reachable():
            tracking.rename(record.run_id, name, tags)
    return state
