"""Where a replay lives: clones of this checkout with a registry of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path

from dvc.repo import Repo

from flows import preflight
from tasks import params
from tasks.errors import StageError

KEPT = Path(".verbatim/replay")
LAST_AHEAD = "evaluate"
"""The last stage that is computed ahead: what follows is done in the order of the nights."""

ELSEWHERE = ("MLFLOW_TRACKING_URI", "VERBATIM_SCORES", "DVC_SYSTEM_CONFIG_DIR")
"""Variables that would lead out of the replay, to a registry or a store that is in use."""


@dataclass(frozen=True)
class Workspace:
    """A clone to live the nights in, one to compute ahead in, and what is kept of each night."""

    root: Path

    @property
    def checkout(self) -> Path:
        """The clone that nights are lived in."""
        return self.root / "checkout"

    @property
    def ahead(self) -> Path:
        """The clone that is ahead of the nights."""
        return self.root / "ahead"

    def record(self, day: date) -> Path:
        """Give the file that tells what came of a night."""
        return self.root / "nights" / f"{day}.json"

    def begun(self, day: date) -> Path:
        """Give the file that tells what a night began with."""
        return self.root / "begun" / f"{day}.json"

    @property
    def picture(self) -> Path:
        """The picture of all nights."""
        return self.root / "life.png"


def laid_out(days: Sequence[date]) -> Workspace:
    """Make both clones, or find them: of the same days, commit and changes there is one replay.

    Raises StageError if this is no git checkout.
    """
    changes = _git("diff", "HEAD", "--binary")
    key = sha256(f"{days}{changes}{_git('rev-parse', 'HEAD')}".encode()).hexdigest()[:8]
    workspace = Workspace((KEPT / f"{days[0]}-{days[-1]}-{key}").resolve())
    for clone in (workspace.checkout, workspace.ahead):
        if not clone.exists():
            _clone(clone, changes)
    return workspace


def _clone(clone: Path, changes: str) -> None:
    """Clone this checkout as it stands, changes included, with its cache; whole or not at all."""
    partial = clone.with_name(f"{clone.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _git("clone", "--quiet", ".", str(partial))
    if changes:
        _git("apply", "--whitespace=nowarn", cwd=partial, given=changes)
    cache = Path(Repo().cache.local.path)
    config = f"[core]\n    analytics = false\n[cache]\n    dir = {cache}\n"
    (partial / ".dvc/config.local").write_text(config, encoding="utf-8")
    partial.rename(clone)


def _git(*words: str, cwd: Path = Path(), given: str | None = None) -> str:
    done = subprocess.run(
        ["git", *words], cwd=cwd, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StageError(f"git {words[0]}: must work on this checkout (got {done.stderr.strip()})")
    return done.stdout


@contextlib.contextmanager
def inside(workspace: Workspace) -> Iterator[None]:
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
def ahead(
    workspace: Workspace, days: Sequence[date], settings: Sequence[str]
) -> Iterator[dict[date, Future[None]]]:
    """Compute the stages of the nights to come, one night after the other, beside what is done."""
    running: list[subprocess.Popen[bytes]] = []

    def compute(day: date) -> None:
        if workspace.record(day).exists():
            return
        file = workspace.ahead / params.FILE
        preflight.override([*settings, f"ingest.dataset_version='{day}'"], file)
        command = [sys.executable, "-m", "dvc", "repro", "--quiet", LAST_AHEAD]
        running.append(subprocess.Popen(command, cwd=workspace.ahead, stderr=subprocess.DEVNULL))
        running[-1].wait()  # what fails here fails in the night, which tells why

    with ThreadPoolExecutor(max_workers=1) as pool:
        futures = {day: pool.submit(compute, day) for day in days}
        try:
            yield futures
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
