"""Where a replay lives: clones of this checkout with a registry of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path

from dvc.repo import Repo

from flows import clones, preflight
from tasks import params

KEPT = Path(".verbatim/replay")
LAST_AHEAD = "evaluate"
"""The last stage that is computed ahead: what follows is done in the order of the nights."""


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
    key = sha256(f"{days}{clones.standing()}".encode()).hexdigest()[:8]
    workspace = Workspace((KEPT / f"{days[0]}-{days[-1]}-{key}").resolve())
    for clone in (workspace.checkout, workspace.ahead):
        if not clone.exists():
            clones.clone(clone, cache=Path(Repo().cache.local.path))
    return workspace


@contextlib.contextmanager
def inside(workspace: Workspace) -> Iterator[None]:
    """Work in the clone, with a registry of its own."""
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{workspace.checkout}/mlflow.db", **clones.SILENT}
    others = {*clones.LEADING_OUT, *own}
    before, kept = Path.cwd(), {name: os.environ.pop(name, None) for name in others}
    os.environ.update(own)
    os.chdir(workspace.checkout)
    try:
        yield
    finally:
        os.chdir(before)
        for name in own:
            del os.environ[name]
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
