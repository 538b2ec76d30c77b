"""The flow `replay`: live the nights of some months again, one after the other.

Each night monitors the champion, trains on what was known then, judges and scores, as the
deployments do. It works in a clone with a registry of its own; what was lived is kept night by
night, so that a replay that was cut off goes on. What costs time in a night, its training, is
computed one night ahead beside it, in a second clone with the same cache. The command line gives it
a Prefect server of its own, too, so that nobody is told of what was long ago.

    python -m flows replay --from 1998-01-01 --to 1998-07-01
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from prefect import State, flow, get_run_logger, runtime
from prefect.states import Completed, Failed
from pydantic import TypeAdapter
from rich.console import Console

from flows import decisions, preflight, replay_workspace, report
from flows.judging import KEPT, PROMOTED, UNCHANGED
from flows.monitor import KEPT as MONITORED
from flows.monitor import monitor
from flows.proof.verdict import STATES, Outcome
from flows.replay_section import Replay
from flows.replay_workspace import Workspace
from flows.scoring import score
from flows.training import training
from flows.walk import DATA_REFUSED, GATE_FAILED
from tasks import files, params, registry, replay_figures
from tasks.errors import ParamsError, StageError, VerbatimError
from tasks.ledger import Decision
from tasks.replay_figures import Measured, Night

NEEDED = ("promote", "score", "monitor", "replay")
"""Sections of params.yaml."""

SCORES = "score.destination=data/scores"
"""Below the clone, wherever scores go otherwise."""

ENDED = (PROMOTED, KEPT, UNCHANGED, STATES[Outcome.DIFFERS], GATE_FAILED, DATA_REFUSED)
"""How a night can end that was not cut off."""

DECIDED = {"promoted": PROMOTED, "kept": KEPT}


def run_name() -> str:
    """Name the run by what it lives."""
    given = runtime.flow_run.parameters
    return f"replay {given['first']} to {given['last']}"


@flow(name="replay", flow_run_name=run_name, persist_result=False)
def replay(first: date, last: date) -> State[Any]:
    """Live the nights from one day to another, in a registry of their own.

    first  the day before which all lies that the first night knows
    last   that of the last night, if the steps between meet it
    """
    try:
        section: Replay = preflight.check(needed=NEEDED)["replay"]
        days, settings = _days(first, last, section.every), (*section.settings, SCORES)
        workspace = replay_workspace.laid_out(days)
        with (
            replay_workspace.inside(workspace),
            replay_workspace.ahead(workspace, days, settings) as computed,
        ):
            nights = [_night(workspace, day, settings, computed[day]) for day in days]
            _show(workspace, nights)
    except VerbatimError as error:
        return Failed(message=str(error))
    return Completed(message=f"{len(nights)} nights: {workspace.picture}")


def _days(first: date, last: date, every: str) -> list[date]:
    if last < first:
        raise ParamsError(f"--to must not be before --from (got {last} and {first})")
    return pl.date_range(first, last, every, eager=True).to_list()


def _night(
    workspace: Workspace, day: date, settings: Sequence[str], computed: Future[None]
) -> Night:
    """Live one night, unless it was lived before; keep what came of it."""
    file = workspace.record(day)
    if not file.exists():
        computed.result()
        preflight.override([*settings, f"ingest.dataset_version='{day}'"])
        _keep(file, TypeAdapter(Night).dump_json(_live(day, _begin(workspace, day))))
    night = TypeAdapter(Night).validate_json(file.read_bytes())
    get_run_logger().info("%s  %s: %s", day, night.state, night.reason)
    return night


def _keep(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".tmp")
    partial.write_bytes(content)
    partial.replace(file)


@dataclass(frozen=True)
class Begun:
    """What a night began with, also if it was cut off and is lived once more.

    champion   the version that was it
    decisions  how many the ledger held
    """

    champion: int | None
    decisions: int


def _begin(workspace: Workspace, day: date) -> Begun:
    file = workspace.begun(day)
    if not file.exists():
        champion, known = _registry()
        _keep(file, json.dumps({"champion": champion, "decisions": len(known)}).encode())
    return Begun(**files.read_json(file))


def _registry() -> tuple[int | None, list[Decision]]:
    with registry.looked_at(params.load()["register"]["model_name"]) as models:
        return models.alias(registry.CHAMPION), models.decisions()


def _live(day: date, begun: Begun) -> Night:
    """Monitor, train, judge and score; raise StageError if one of these fails."""
    if begun.champion is not None and begun.champion == _registry()[0]:
        _well(day, monitor(as_of=day, return_state=True))
    state: State[Any] = training(judge=True, return_state=True)
    if state.name not in ENDED:
        raise StageError(f"{day}: the night must end (got {state.name}: {state.message})")
    night = _decided(day, state, begun)
    if night.champion is not None:
        _well(day, score(as_of=day, return_state=True))
    return _seen(night, begun)


def _well(day: date, state: State[Any]) -> None:
    if not state.is_completed():
        raise StageError(f"{day}: {state.message}")


def _decided(day: date, state: State[Any], begun: Begun) -> Night:
    """Tell what came of training and judging, by the ledger if it says more."""
    champion, known = _registry()
    last = next(iter(known[begun.decisions :][-1:]), None)
    name = str(state.name)
    if name == UNCHANGED and last is not None:  # it was cut off after the decision
        name = DECIDED[last.kind]
    evidence = last.evidence if last else {}
    return Night(
        day=day,
        state=name,
        reason=last.reason if last else str(state.message).splitlines()[0],
        challenger=_evaluated() if name != DATA_REFUSED else None,
        before=_measured(evidence.get("champion")),
        champion=champion,
        subject=last.subject if last else None,
    )


def _evaluated() -> Measured:
    metrics = files.read_json(report.EVALUATED / "metrics.json")
    bounds = metrics["test_interval"]["roc_auc"]
    return Measured(metrics["test"]["roc_auc"], bounds["low"], bounds["high"])


def _measured(told: dict[str, Any] | None) -> Measured | None:
    return Measured(told["roc_auc"], told["low"], told["high"]) if told else None


def _seen(night: Night, begun: Begun) -> Night:
    """Add what scoring has left, and what monitoring has found of the champion before."""
    values = params.load()
    name, where = values["register"]["model_name"], Path(values["score"]["destination"])
    scored = where / f"date={night.day}" / f"version={night.champion}" / "manifest.json"
    scores = files.read_json(scored) if scored.exists() else {}
    seen = MONITORED / f"monitor-{name}-v{begun.champion}-{night.day}"
    told = files.read_json(seen / "findings.json") if seen.exists() else []
    drifts = [each["observed"] for each in told if each["name"].startswith("drift.")]
    of_scores = [each["observed"] for each in told if each["name"] == "score_drift"]
    live = files.read_json(seen / "live.json")["roc_auc"] if (seen / "live.json").exists() else []
    return replace(
        night,
        scored_rows=scores.get("rows"),
        mean_score=scores.get("mean_score"),
        drift=max(drifts, default=None),
        scores=max(of_scores, default=None),
        live=Measured(*live) if live and None not in live else None,
        crossed=tuple(each["name"] for each in told if each["crossed"]),
    )


def _show(workspace: Workspace, nights: Sequence[Night]) -> None:
    """Draw the picture, and print every decision."""
    promoted = sum(night.state == PROMOTED for night in nights)
    title = f"{len(nights)} nights from {nights[0].day} to {nights[-1].day}: {promoted} promotions"
    bound = params.load()["monitor"]["max_drift"]
    replay_figures.life(workspace.picture, nights, title=title, max_drift=bound)
    name = params.load()["register"]["model_name"]
    with registry.looked_at(name) as models:
        decisions.show(name, *decisions.of(models))
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(f"picture  {workspace.picture}")
    console.print(f"next     cd {workspace.checkout} and python -m flows ledger")
