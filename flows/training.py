"""The training flow: DVC's graph, walked stage by stage, with a Prefect task run for each.

A stage that DVC knows to be up to date, or finds in its run cache, ends in the state Cached and
starts no process. Every other stage runs its own command. Afterwards `dvc status` is clean, as
after `dvc repro`; if the data itself was refused, everything stands as it did before.

    python -m flows train
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from prefect import State, flow, get_run_logger, runtime
from prefect.states import Completed, Failed

from flows import elsewhere, judging, preflight, report, workspace
from flows.form import Overrides, settings
from flows.graph import Done, Graph, Outcome, Step
from flows.live import Live
from flows.placement import Placement
from flows.progress import Progress
from flows.report import Row
from flows.walk import Failure, walk
from tasks import ingest, lineage, params, store, tracking
from tasks.claim import EXPERIMENT_COMMIT
from tasks.errors import DataValidationError, ParamsError, TemporaryError, VerbatimError
from tasks.store import Record

INGEST = "ingest"


@dataclass(frozen=True)
class Plan:
    """What a run is about to compute.

    pools  to which it can send the stages that are meant for them
    """

    values: dict[str, Any]
    graph: Graph
    origin: lineage.Lineage
    pools: frozenset[str]

    @property
    def name(self) -> str:
        """The name of the run, by what it will compute."""
        return lineage.run_name(self.values["register"].intent, self.values["model"], self.origin)

    def record(self) -> Record | None:
        """Look up what is recorded of this content."""
        register = self.values["register"]
        return tracking.find(
            self.origin.key,
            experiment=register.experiment,
            model_name=register.model_name,
            alias=register.stage,
        )


def settle(overrides: Overrides, *, latest: bool = False) -> Plan:
    """Write what is overridden into params.yaml, and foresee the run.

    latest  train on all events there are, and write down up to when that is

    Raises ParamsError for wrong parameters, StageError if something that a stage reads is absent.
    """
    preflight.override(settings(overrides), here=False)
    values, graph = preflight.check(here=False), Graph()
    pools = _pools(graph)
    if not pools:
        preflight.check()
    if latest:
        graph.bring_before(INGEST)
        newest = ingest.latest(values[INGEST].source, values[INGEST].time_column)
        preflight.override([f"{INGEST}.dataset_version='{newest}'"], here=False)
        values, graph = preflight.check(here=False), Graph()
    return Plan(values, graph, graph.lineage(), pools)


def _pools(graph: Graph) -> frozenset[str]:
    """Find the pools to which stages can be sent: from a clone, and with a remote to share by."""
    if not (workspace.is_own() and graph.is_shared):
        return frozenset()
    wanted = {step.pool for step in graph.steps if step.pool is not None}
    return frozenset(filter(elsewhere.is_there, wanted))


_foreseen: dict[str, Plan] = {}
"""The plan of the run that was named and has not begun, by what it was asked: it costs a second."""


def run_name() -> str:
    """Name the run by what it will compute; by the flow alone if params.yaml is wrong."""
    given = runtime.flow_run.parameters
    overrides = Overrides.model_validate(given.get("overrides", {}))
    latest = given.get("latest", False)
    try:
        plan = settle(overrides, latest=latest)
    except VerbatimError:
        return "training"
    _foreseen[_asked(overrides, latest=latest)] = plan
    return plan.name


def _asked(overrides: Overrides, *, latest: bool) -> str:
    file = params.FILE
    written = file.read_text(encoding="utf-8") if file.exists() else ""
    return f"{latest} {overrides.model_dump_json()} {written}"


AS_IN_PARAMS, ANY_MACHINE = Overrides(), Placement()


@flow(name="training", flow_run_name=run_name, persist_result=False)
def training(
    *,
    overrides: Overrides = AS_IN_PARAMS,
    placement: Placement = ANY_MACHINE,
    latest: bool = False,
    judge: bool = False,
    force: bool = False,
) -> State[Any]:
    """Bring the model up to date and register it.

    overrides  parameters for this run; what is left empty is as in params.yaml
    placement  the machine for the stage that goes to the pool with GPUs
    latest     train on all events there are
    judge      hold the result against the champion, and promote it if it is better
    force      run every stage, even those whose result is known
    """
    try:
        plan = _foreseen.pop(_asked(overrides, latest=latest), None)
        plan = plan or settle(overrides, latest=latest)
        if judge:
            preflight.check(needed=("promote",), here=False)
        bring = _Bring(plan, placement, force=force)
    except DataValidationError as error:
        return _refused(str(error), judge=judge)
    except VerbatimError as error:
        return Failed(message=str(error))
    rows, experiment = list[Row](), plan.values["register"].experiment
    with Live(plan.name, experiment=experiment, key=plan.origin.key, log=get_run_logger()) as live:
        failure = walk(plan.graph, plan.graph.steps, rows, partial(bring, live))
    record = None
    with suppress(TemporaryError):  # a store out of reach, of which `register` has complained
        record = plan.record()
    result = report.Result(plan.name, plan.values["register"].model_name, rows, record)
    report.publish(result)
    report.show(result)
    faults = [failure.message] if failure else []
    conclusion = None
    try:
        if workspace.is_own() and failure is None:
            _keep(plan.name, record)
        if judge:
            conclusion = judging.conclude(plan.values, plan.name, record, failure)
    except VerbatimError as error:
        faults.append(str(error))
    if faults:
        return Failed(name=failure and failure.state_name, message="\n".join(faults))
    if conclusion is not None:
        return Completed(name=conclusion.name, message=conclusion.message)
    return Completed(message=report.summary(rows))


def _refused(message: str, *, judge: bool) -> State[Any]:
    """End a run that could not even see up to when there are events."""
    failure = Failure(INGEST, DataValidationError.__name__, message)
    try:
        if judge:
            values = preflight.check(needed=("promote",), here=False)
            judging.conclude(values, str(runtime.flow_run.name), None, failure)
    except VerbatimError as error:
        message += f"\n{error}"
    return Failed(name=failure.state_name, message=message)


class _Bring:
    """Brings the stages of one run up to date, each where it is to be computed.

    Raises ParamsError if that is nowhere: a machine is asked for that no pool has.
    """

    def __init__(self, plan: Plan, placement: Placement, *, force: bool) -> None:
        self._plan, self._placement, self._force = plan, placement, force
        asked = placement != ANY_MACHINE
        for pool in plan.pools if asked else ():
            elsewhere.check(pool, placement)
        if asked and not plan.pools:
            raise ParamsError(
                "placement: must be left empty where no stage goes to another pool (got "
                f"{placement.model_dump(exclude_defaults=True)})"
            )

    def __call__(self, live: Live, step: Step) -> Done:
        """Bring a stage up to date, and record the result again if the store has lost it."""
        graph, log = self._plan.graph, get_run_logger()
        with live.during(step.name), Progress(step.name, log, also=live.line) as progress:
            sent = self._compute_elsewhere(step, progress)
            done = graph.bring_up_to_date(step, progress.line, force=self._force and not sent)
            if sent and done.outcome is not Outcome.RAN:
                return replace(done, outcome=Outcome.SENT)
            if step.name == lineage.LAST and not done.ran and not _complete(self._plan.record()):
                progress.line("MLflow lacks this result, or its alias: recording it again")
                done = graph.bring_up_to_date(step, progress.line, force=True)
            return done

    def _compute_elsewhere(self, step: Step, progress: Progress) -> bool:
        """Have a stage computed on its pool, if it must be computed and there is that pool."""
        plan, pool = self._plan, step.pool
        if pool is None or pool not in plan.pools:
            return False
        if not self._force and not plan.graph.lacks(step):
            return False
        progress.line(f"computed on {pool}-pool, in a run of its own, when a worker takes it")
        text = params.FILE.read_text(encoding="utf-8")
        origin = elsewhere.Origin(plan.name, workspace.commit(), plan.origin.key, text)
        elsewhere.compute(step.name, pool, origin, self._placement, force=self._force)
        return True


def _complete(record: Record | None) -> bool:
    return record is not None and record.complete


def _keep(name: str, record: Record | None) -> None:
    """Save the run as an experiment, and let the MLflow run say where it comes from."""
    commit = workspace.keep(name)
    if record is None:
        return
    page = runtime.flow_run.ui_url
    note = f"Prefect run: [{page}]({page})\n\nDVC experiment: `dvc exp apply {name}`"
    tags = {EXPERIMENT_COMMIT: commit, "prefect_run": page, "mlflow.note.content": note}
    with suppress(TemporaryError), store.reachable():
        tracking.rename(record.run_id, name, tags)
