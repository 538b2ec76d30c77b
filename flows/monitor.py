"""The flow `monitor`: tell whether the world has moved from what the champion has learned.

It compares the newest month with what the champion was trained on, and what the evaluation promised
with the outcomes that are known by now. A bound that is newly crossed ends the run in the state
Drifted and emits the event that `flows.automations` has a retrain started by. What was told is kept
with the champion's version, so that it is told once.

    python -m flows monitor --as-of 1998-07-01
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from prefect import State, flow, runtime
from prefect.client.orchestration import get_client
from prefect.events import Event, RelatedResource, Resource
from prefect.states import Completed, Failed
from pydantic import TypeAdapter

from flows import monitor_report, preflight
from flows.automations import DRIFTED
from flows.graph import Graph
from flows.monitor_report import Result
from flows.scoring import latest
from flows.walk import DATA_REFUSED
from tasks import alarm, events, files, measures, monitor_figures, monitoring, observation, seeds
from tasks import champion as champions
from tasks.champion import Champion
from tasks.errors import DataValidationError, ParamsError, VerbatimError
from tasks.events import Held
from tasks.lake import refusal
from tasks.monitoring import Finding
from tasks.observation import Lake
from tasks.record import digest
from tasks.registry import CHAMPION, looked_at, opened

INGEST = "ingest"
KEPT = Path(".verbatim/monitor")
PURPOSE = "monitor"
"""What the seed of the bootstrap is derived for."""


@dataclass(frozen=True)
class Plan:
    """What is looked at, and as of when."""

    values: dict[str, Any]
    held: Held
    as_of: date

    @property
    def model_name(self) -> str:
        """The registered model."""
        return str(self.values["register"].model_name)

    def name(self, version: int | None) -> str:
        """Name the run."""
        return f"monitor-{self.model_name}-v{version or 'none'}-{self.as_of}"


def settle(as_of: date | None) -> Plan:
    """Bring the lake up to date, read it, and find the day to look from.

    Raises ParamsError for wrong parameters, else as `lake.read` does.
    """
    values, graph = preflight.check(needed=("monitor",), here=False), Graph()
    graph.bring_before(INGEST)
    section = values[INGEST]
    held = events.read(section.source, section.time_column)
    return Plan(values, held, as_of or latest(section))


def run_name() -> str:
    """Name the run by model, version and day; by the flow alone if something is wrong."""
    try:
        given = TypeAdapter(date | None).validate_python(runtime.flow_run.parameters.get("as_of"))
        plan = settle(given)
        with looked_at(plan.model_name) as registry:
            return plan.name(registry.alias(CHAMPION))
    except VerbatimError:
        return "monitor"


@flow(name="monitor", flow_run_name=run_name, persist_result=False)
def monitor(*, as_of: date | None = None, retrain: bool = True) -> State[Any]:
    """Look whether the champion's world has drifted, and tell once.

    as_of    only what happened before this day is known; empty: the day after the newest event
    retrain  emit the event that has a retrain started when a bound is newly crossed
    """
    try:
        plan = settle(as_of)
        result = look(plan)
        monitor_report.publish(result)
        monitor_report.show(result)
        return _tell(plan, result, retrain=retrain)
    except DataValidationError as error:
        return Failed(name=DATA_REFUSED, message=str(error))
    except VerbatimError as error:
        return Failed(message=str(error))


def look(plan: Plan) -> Result:
    """Observe and judge, and keep report and pictures in a folder.

    Raises StageError without a champion, ParamsError for a day before what it knows.
    """
    champion = champions.read(plan.model_name)
    _check_day(plan, champion)
    section = plan.values["monitor"]
    rows, changed = rebuild(plan, champion)
    seen = observation.observe(
        champion,
        rows,
        as_of=plan.as_of,
        time=plan.held.time_column,
        score=champion.score,
        resamples=section.resamples,
        seed=seeds.derive(plan.values["seed"], PURPOSE),
    )
    patterns = monitoring.ignored(section, champion.settings["evaluate"]["drift_ignored"])
    findings = monitoring.judge(section, seen, patterns)
    number = champion.version.number
    name = plan.name(number)
    result = Result(name, plan.model_name, number, seen, findings, patterns, changed, KEPT / name)
    monitor_figures.draw(result.folder, seen, section, patterns, findings)
    monitor_report.keep(result)
    return result


def _check_day(plan: Plan, champion: Champion) -> None:
    if plan.held.time_column is not None and plan.as_of < champion.dataset_version:
        raise ParamsError(
            f"as_of: must not be before {champion.dataset_version}, up to when version "
            f"{champion.version.number} has learned (got {plan.as_of})\n"
            "next: python -m flows monitor --as-of DATE, or see what has become of the lake"
        )


def rebuild(plan: Plan, champion: Champion) -> tuple[Lake, str | None]:
    """Give the rows then and now; and a sentence if those of then are not as they were."""
    then, now = (plan.held.before(day) for day in (champion.dataset_version, plan.as_of))
    if then is None or now is None:
        fault = f"{plan.held.source}: must hold what was known before {champion.dataset_version}"
        raise refusal([f"{fault} (got nothing)"], "see what has become of the lake")
    newest, time = now, plan.held.time_column
    if time is not None:
        months = measures.last_months(now, time, plan.as_of.isoformat(), 1)
        newest = months[0][1] if months else now.clear()
    return Lake(then, now, newest), _changed(champion, then)


def _changed(champion: Champion, rows: pl.DataFrame) -> str | None:
    """Say so if the rebuilt snapshot is another than the champion was trained on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        files.write_parquet(path, rows)
        found = digest("md5", [path])
    if found == champion.version.tags.get("snapshot_md5"):
        return None
    return (
        f"The lake's past has changed since version {champion.version.number} was trained: before "
        f"{champion.dataset_version} it had {champion.manifest['rows']:,} rows, and has "
        f"{rows.height:,} now. The training part is rebuilt from these."
    )


def _tell(plan: Plan, result: Result, *, retrain: bool) -> State[Any]:
    """Tell what has newly crossed, once; keep with the model what was told."""
    with opened(plan.model_name) as registry:
        told = alarm.read(registry.tags.get(alarm.TAG))
        news = alarm.news(told, result.findings)
        if news and retrain:
            emit(result, news)
        after = alarm.updated(told, result.findings, plan.as_of)
        if retrain and after != told:
            registry.remember(alarm.TAG, alarm.write(after))
    if news:
        return Completed(name="Drifted", message="\n".join(each.why for each in news))
    if after:
        return Completed(message=f"{result.summary}: still drifting, told on {max(after.values())}")
    return Completed(message=result.summary)


def emit(result: Result, news: Sequence[Finding]) -> None:
    """Send the event and wait until the server has it: a retrain hangs on it."""
    event = Event(
        event=DRIFTED,
        resource=Resource(
            {
                "prefect.resource.id": f"verbatim.model.{result.model_name}",
                "prefect.resource.name": result.model_name,
                "verbatim.version": str(result.version),
            }
        ),
        related=[
            RelatedResource(
                {
                    "prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}",
                    "prefect.resource.role": "flow-run",
                    "prefect.resource.name": str(runtime.flow_run.name),
                }
            )
        ],
        payload={
            "as_of": result.seen.as_of.isoformat(),
            "findings": [asdict(each) for each in news],
        },
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
