"""The flow `score`: the champion's scores of everybody who is known on a day, as Parquet files.

A day that the champion has scored is found by its manifest, and left alone. A relative destination
is a folder of the checkout; the clone that a deployed run works in is soon gone, so there it is
what `VERBATIM_SCORES` names.

    python -m flows score --as-of 1998-07-01
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from prefect import State, flow, get_run_logger, runtime, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from pydantic import TypeAdapter
from rich.console import Console

from flows import preflight, process, workspace
from flows.graph import Graph
from flows.walk import DATA_REFUSED
from tasks import champion as champions
from tasks import events, feature_code, ingest, registry, score_files, scoring
from tasks.champion import Champion
from tasks.destination import KEY, Destination
from tasks.errors import DataValidationError, ParamsError, TemporaryError, VerbatimError
from tasks.events import Held
from tasks.ingest import Ingest
from tasks.registry import Version
from tasks.scoring import Score

INGEST = "ingest"
SCORES = "VERBATIM_SCORES"
RETRY_DELAYS_SECONDS = [2.0, 10.0]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Plan:
    """Whom a run is about to score, with which version, and where the scores go."""

    as_of: date
    model_name: str
    version: Version
    destination: str
    graph: Graph
    ingest: Ingest
    score: Score

    @property
    def name(self) -> str:
        """The name of the run."""
        return f"score-{self.model_name}-v{self.version.number}-{self.as_of}"

    @property
    def where(self) -> Destination:
        """The folder of this day and version."""
        return score_files.place(self.destination, self.as_of, self.version.number)


def settle(as_of: date | None) -> Plan:
    """Find the champion and the day, and bring up to date what makes the source of events.

    as_of  None: the day after the newest event, or today if the table has no time

    Raises StageError if there is no champion.
    """
    values, graph = preflight.check(needed=("score",), here=False), Graph()
    section, model_name = values[INGEST], values["register"].model_name
    destination = settled(values["score"].destination)
    with registry.looked_at(model_name) as found:
        version = champions.pointed_to(found)
    graph.bring_before(INGEST)
    day = as_of or latest(section)
    return Plan(day, model_name, version, destination, graph, section, values["score"])


def latest(section: Ingest) -> date:
    """Give the day on which everything there is is known."""
    if section.time_column is None:
        return datetime.now(UTC).date()
    return ingest.latest(section.source, section.time_column)


def settled(destination: str) -> str:
    """Say where scores go; raises ParamsError if that would vanish with the clone of this run."""
    if "://" in destination or Path(destination).is_absolute():
        return destination
    if shared := os.environ.get(SCORES):
        return shared
    if workspace.is_own():
        raise ParamsError(
            f"params.yaml: {KEY}: must outlast the clone that this run works in "
            f"(got {destination})\nnext: set {SCORES} where the worker runs, or give an s3:// "
            "address or an absolute path"
        )
    return destination


def run_name() -> str:
    """Name the run by what it will score; by the flow alone if that cannot be told."""
    try:
        given = TypeAdapter(date | None).validate_python(runtime.flow_run.parameters.get("as_of"))
        return settle(given).name
    except VerbatimError:
        return "score"


@flow(name="score", flow_run_name=run_name, persist_result=False)
def score(*, as_of: date | None = None) -> State[Any]:
    """Score everybody who is known on a day with the champion.

    as_of  only events before this day are known; left empty: the day after the newest event
    """
    try:
        plan = settle(as_of)
        manifest = score_files.written(plan.where, plan.model_name, plan.version)
        is_new = manifest is None
        if manifest is None:
            manifest = _score(plan)
    except DataValidationError as error:
        return Failed(name=DATA_REFUSED, message=str(error))
    except VerbatimError as error:
        return Failed(message=str(error))
    _publish(plan, manifest)
    said = f"{manifest['rows']} rows in {plan.where.address}"
    if is_new:
        return Completed(message=said)
    return Completed(name="Cached", message=f"already scored: {said}")


def _score(plan: Plan) -> dict[str, Any]:
    """Read, check, score and write, a task run each; give the manifest."""
    champion: Champion = _run(
        "champion", lambda: champions.read(plan.model_name, plan.version.number)
    )
    process.pin(champion.settings.get("pins", ""))
    batch_rows, day = plan.score.batch_rows, plan.as_of

    def read() -> tuple[Held, pl.DataFrame]:
        held = events.read(plan.ingest.source, plan.ingest.time_column)
        silence = plan.ingest.max_silence_days
        return held, scoring.current(held, day, champion, max_silence_days=silence)

    held, rows = _run("read", read)
    if feature_code.is_same(champion.lock, plan.graph.lineage().sources):
        get_run_logger().info("features are made by the code that the champion has learned with")
    else:
        _run("check", lambda: feature_code.check(champion, held, batch_rows=batch_rows))
    name = plan.model_name
    scores = _run("score", lambda: scoring.score(champion, rows, day, name, batch_rows=batch_rows))
    last = scoring.last_event(rows, plan.ingest.time_column)
    facts = scoring.facts(champion, name, day, last, scores)
    where = score_files.place(plan.destination, day, champion.version.number)
    return _run("write", lambda: score_files.write(where, scores, facts, batch_rows=batch_rows))


def _run(name: str, work: Callable[[], Made]) -> Made:
    """Do a part of the work as a task run; again if what is outside may be back."""
    made: Made = task(
        name=name,
        task_run_name=name,
        retries=len(RETRY_DELAYS_SECONDS),
        retry_delay_seconds=RETRY_DELAYS_SECONDS,
        retry_condition_fn=_may_pass,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(work)()
    return made


def _may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TemporaryError)


def _publish(plan: Plan, manifest: dict[str, Any]) -> None:
    """Show what came of it, as an artifact and in the terminal."""
    told = {
        "model version": f"{plan.model_name}/{manifest['model_version']}",
        "as of": manifest["as_of"],
        "last event": manifest["last_event"] or "none: a table without time",
        "rows": f"{manifest['rows']:,}",
        "mean score": f"{manifest['mean_score']:.4f}",
        "where": plan.where.address,
    }
    create_table_artifact([told], key="scores", description="Scores of everybody who is known")
    console = Console(soft_wrap=True)
    for name, value in told.items():
        console.print(f"{name:<14} {value}", markup=False, highlight=False)
    look = f"import polars; print(polars.read_parquet('{plan.where.address}/*.parquet'))"
    console.print(f'next           python -c "{look}"', markup=False, highlight=False)
