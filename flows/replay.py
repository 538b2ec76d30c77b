"""The flow `replay`: live the nights of some months again, one after the other.

Each night monitors the champion, trains on what was known then, judges and scores, as the
deployments do. It works in a clone with a registry of its own; what was lived is kept night by
night, so that a replay that was cut off goes on. What costs time in a night, its training, is
computed one night ahead beside it, in a second clone with the same cache.

    python -m flows replay --from 1998-01-01 --to 1998-07-01
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
from dvc.repo import Repo
from prefect import State, flow, get_run_logger
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.states import Completed, Failed
from pydantic import TypeAdapter
from rich.console import Console

from flows import decisions, preflight, report
from flows.monitor import KEPT as MONITORED
from flows.monitor import monitor
from flows.replay_section import Replay
from flows.scoring import score
from flows.training import training
from tasks import files, params, registry, replay_figures
from tasks.errors import ParamsError, StageError, VerbatimError
from tasks.replay_figures import Measured, Night

KEPT = Path(".verbatim/replay")
LAST_AHEAD = "evaluate"
"""The last stage that is computed ahead: what follows is done in the order of the nights."""

ELSEWHERE = ("MLFLOW_TRACKING_URI", "VERBATIM_SCORES", "DVC_SYSTEM_CONFIG_DIR")
"""Variables that would lead out of the replay, to a registry or a store that is in use."""


@dataclass(frozen=True)
class Workspace:
    """Where a replay lives: a clone to live the nights in, and one to compute ahead in."""

    root: Path

    @property
    def checkout(self) -> Path:
        """The clone that nights are lived in."""
        return self.root / "checkout"

    @property
    def ahead(self) -> Path:
        """The clone that is one night ahead."""
        return self.root / "ahead"

    def record(self, day: date) -> Path:
        """Give the file that tells what came of a night."""
        return self.root / "nights" / f"{day}.json"

    @property
    def picture(self) -> Path:
        """The picture of all nights."""
        return self.root / "life.png"


def run_name() -> str:
    """Name the run by what it lives."""
    from prefect import runtime

    given = runtime.flow_run.parameters
    return f"replay {given['first']} to {given['last']}"


@flow(name="replay", flow_run_name=run_name, persist_result=False)
def replay(first: date, last: date) -> State[Any]:
    """Live the nights from one day to another, in a registry of their own.

    first  the day before which all lies that the first night knows
    last   that of the last night, if the steps between meet it
    """
    try:
        section: Replay = preflight.check(needed=("promote", "score", "monitor", "replay"))[
            "replay"
        ]
        days = _days(first, last, section.every)
        workspace = _laid_out(days)
        with _inside(workspace), _ahead(workspace, days, section.settings) as computed:
            nights = [_night(workspace, day, section.settings, computed[day]) for day in days]
            _show(workspace, nights)
    except VerbatimError as error:
        return Failed(message=str(error))
    return Completed(message=f"{len(nights)} nights: {workspace.picture}")


def _days(first: date, last: date, every: str) -> list[date]:
    if last < first:
        raise ParamsError(f"--to must not be before --from (got {last} and {first})")
    return pl.date_range(first, last, every, eager=True).to_list()


def _laid_out(days: Sequence[date]) -> Workspace:
    """Make both clones, or find them: of the same days, commit and changes there is one replay."""
    tracked = _git("diff", "HEAD", "--binary") + _git("rev-parse", "HEAD")
    key = sha256(f"{days}{tracked}".encode()).hexdigest()[:8]
    workspace = Workspace((KEPT / f"{days[0]}-{days[-1]}-{key}").resolve())
    cache = Path(Repo().cache.local.path)
    for clone in (workspace.checkout, workspace.ahead):
        if not (clone / ".dvc/config.local").exists():
            _clone(clone, cache)
    return workspace


def _clone(clone: Path, cache: Path) -> None:
    """Clone this checkout as it stands, changes included, with its cache."""
    changes = _git("diff", "HEAD", "--binary")
    _git("clone", "--quiet", ".", str(clone))
    if changes:
        _git("apply", "--whitespace=nowarn", cwd=clone, given=changes)
    config = f"[core]\n    analytics = false\n[cache]\n    dir = {cache}\n"
    (clone / ".dvc/config.local").write_text(config, encoding="utf-8")


def _git(*words: str, cwd: Path = Path(), given: str | None = None) -> str:
    done = subprocess.run(
        ["git", *words], cwd=cwd, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StageError(f"git {words[0]}: must work on this checkout (got {done.stderr.strip()})")
    return done.stdout


@contextlib.contextmanager
def _inside(workspace: Workspace) -> Iterator[None]:
    """Work in the clone, with a registry of its own."""
    before, kept = Path.cwd(), {name: os.environ.pop(name, None) for name in ELSEWHERE}
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{workspace.checkout}/mlflow.db"
    os.chdir(workspace.checkout)
    try:
        yield
    finally:
        os.chdir(before)
        del os.environ["MLFLOW_TRACKING_URI"]
        os.environ.update({name: value for name, value in kept.items() if value is not None})


@contextlib.contextmanager
def _ahead(
    workspace: Workspace, days: Sequence[date], settings: Sequence[str]
) -> Iterator[dict[date, Future[None]]]:
    """Compute the stages of the nights to come, one night after the other, beside what is done."""
    running: list[subprocess.Popen[bytes]] = []

    def compute(day: date) -> None:
        file = workspace.ahead / params.FILE
        preflight.override([*settings, f"ingest.dataset_version='{day}'"], file)
        command = [sys.executable, "-m", "dvc", "repro", "--quiet", LAST_AHEAD]
        running.append(subprocess.Popen(command, cwd=workspace.ahead, stderr=subprocess.DEVNULL))
        running[-1].wait()  # what fails here fails in the night, which tells why

    with ThreadPoolExecutor(max_workers=1) as pool:
        missing = [day for day in days if not workspace.record(day).exists()]
        futures = {day: pool.submit(compute, day) for day in missing}
        try:
            yield {**{day: _done() for day in days}, **futures}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


def _night(
    workspace: Workspace, day: date, settings: Sequence[str], computed: Future[None]
) -> Night:
    """Live one night, unless it was lived before; keep what came of it."""
    file = workspace.record(day)
    if not file.exists():
        computed.result()
        preflight.override([*settings, f"ingest.dataset_version='{day}'"])
        watched = _champion()
        if watched is not None:
            monitor(as_of=day, retrain=False, return_state=True)
        state: State[Any] = training(judge=True, return_state=True)
        if state.name not in ENDED:
            raise StageError(f"{day}: the night must end (got {state.name}: {state.message})")
        night = _lived(day, state)
        if night.champion is not None:
            score(as_of=day, return_state=True)
        night = _seen(night, watched)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".tmp")
        partial.write_bytes(TypeAdapter(Night).dump_json(night))
        partial.replace(file)
    night = TypeAdapter(Night).validate_json(file.read_bytes())
    get_run_logger().info("%s  %s: %s", day, night.state, night.reason)
    return night


ENDED = ("Promoted", "Kept", "Unchanged", "GateFailed", "DataRefused")
"""How a night can end that was not cut off."""


def _lived(day: date, state: State[Any]) -> Night:
    """Tell what came of training and judging."""
    name = params.load()["register"]["model_name"]
    with registry.looked_at(name) as models:
        champion, known = models.alias(registry.CHAMPION), models.decisions()
    last = known[-1] if known and state.name in {"Promoted", "Kept"} else None
    evidence = last.evidence if last else {}
    return Night(
        day=day,
        state=str(state.name),
        reason=last.reason if last else str(state.message).splitlines()[0],
        challenger=_evaluated() if state.name != "DataRefused" else None,
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


def _champion() -> int | None:
    with registry.looked_at(params.load()["register"]["model_name"]) as models:
        return models.alias(registry.CHAMPION)


def _seen(night: Night, watched: int | None) -> Night:
    """Add what scoring has left, and what monitoring has found of the champion before.

    watched  its version
    """
    values = params.load()
    name, where = values["register"]["model_name"], Path(values["score"]["destination"])
    scored = where / f"date={night.day}" / f"version={night.champion}" / "manifest.json"
    scores = files.read_json(scored) if scored.exists() else {}
    seen = MONITORED / f"monitor-{name}-v{watched}-{night.day}"
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
    """Draw the picture, keep it with the flow run, and print every decision."""
    promoted = sum(night.state == "Promoted" for night in nights)
    title = f"{len(nights)} nights from {nights[0].day} to {nights[-1].day}: {promoted} promotions"
    bound = params.load()["monitor"]["max_drift"]
    replay_figures.life(workspace.picture, nights, title=title, max_drift=bound)
    rows = [{name: str(value) for name, value in asdict(night).items()} for night in nights]
    create_table_artifact(rows, key="nights", description="What came of each night")
    create_image_artifact(report.inline(workspace.picture), key="life", description=title)
    name = params.load()["register"]["model_name"]
    with registry.looked_at(name) as models:
        decisions.show(name, *decisions.of(models))
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(f"picture  {workspace.picture}")
    console.print(f"next     cd {workspace.checkout} and python -m flows ledger")
