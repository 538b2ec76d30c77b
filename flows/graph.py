"""Walk DVC's graph of stages in process: its skip decisions, its cache, its lock file.

Each step takes DVC's own calls in DVC's own order, so a run leaves what `dvc repro` leaves. What
differs: a stage's lines are handed on while it works, and no second `dvc` is started for it, which
would cost about a second a stage.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import plan_repro
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.decorators import rwlocked, unlocked_repo
from dvc.stage.run import prepare_kwargs

from tasks import lineage
from tasks.errors import ParamsError, StageError

LOCK = Path("dvc.lock")
FAILED = Path(".verbatim/failed")
"""Where what a failed stage wrote is kept when its last good outputs are put back."""
TAIL = 30
SHELL_SIGNAL = 128


class Outcome(StrEnum):
    """What was done for a stage: nothing, a restore from the run cache, or its command."""

    UNCHANGED = "unchanged"
    RESTORED = "restored"
    RAN = "ran"


class CommandError(StageError):
    """A stage's command ended with a status other than zero.

    status  exit status, negative or above 128 if a signal ended it
    """

    def __init__(self, stage: str, status: int, tail: list[str]) -> None:
        self.stage, self.status, self.tail = stage, status, tail
        super().__init__(f"{stage}: {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.stage, self.status, self.tail)

    @property
    def killed(self) -> bool:
        """Whether a signal ended the command, as the out-of-memory killer does."""
        return self.signal > 0

    @property
    def signal(self) -> int:
        """The number of the signal that ended the command (a shell adds 128 to it), or 0."""
        return -self.status if self.status < 0 else max(self.status - SHELL_SIGNAL, 0)

    @property
    def reason(self) -> str:
        """The error the stage printed, or how its process ended."""
        if self.killed:
            name = signal.Signals(self.signal).name
            return f"killed by {name}; if memory ran out, free some and run again"
        starts = [at for at, line in enumerate(self.tail) if line.split(":")[0].endswith("Error")]
        lines = self.tail[starts[-1] :] if starts else self.tail[-5:]
        return "\n".join(lines) or f"ended with status {self.status}"


@dataclass(frozen=True)
class Step:
    """A stage as the flow sees it."""

    stage: PipelineStage

    @property
    def name(self) -> str:
        """The stage's name in `dvc.yaml`."""
        return str(self.stage.addressing)

    @property
    def retries(self) -> int:
        """How often `dvc.yaml` lets a failure outside the stage be tried again."""
        return int((self.stage.meta or {}).get("retries", 0))

    @property
    def guards(self) -> bool:
        """Whether a failure means that what was there before must stay (`meta: {guards: true}`)."""
        return bool((self.stage.meta or {}).get("guards", False))

    @property
    def output_hash(self) -> str:
        """The hash of the stage's output folder as it stands in `dvc.lock`."""
        return ", ".join(out.hash_info.value or "" for out in self.stage.outs)


class Graph:
    """The stages of the checkout in `root`, in the order in which they must run."""

    def __init__(self, root: Path = Path()) -> None:
        logging.getLogger("dvc").setLevel(logging.WARNING)  # the flow says what happened
        try:
            self.repo = Repo(str(root))
            self.steps = [Step(stage) for stage in plan_repro(self.repo.index.graph)]
        except DvcException as error:
            raise ParamsError(f"dvc.yaml: must be readable with params.yaml ({error})") from error

    def changed(self, step: Step) -> bool:
        """Ask DVC whether the stage must be brought up to date."""
        with lock_repo(self.repo):
            return bool(step.stage.changed())

    def bring_up_to_date(
        self, step: Step, emit: Callable[[str], None], *, force: bool = False
    ) -> Outcome:
        """Do for one stage what `dvc repro --single-item` does; `emit` gets each line it prints.

        Raises CommandError if the command fails, StageError if DVC refuses.
        """
        try:
            with lock_repo(self.repo):
                if not force and not step.stage.changed():
                    return Outcome.UNCHANGED
                restored: bool = _reproduce(step.stage, emit, force=force)
        except DvcException as error:
            raise StageError(f"{step.name}: {error}") from error
        return Outcome.RESTORED if restored else Outcome.RAN

    def lineage(self) -> lineage.Lineage:
        """Foresee what the result comes from; `lineage.read` finds the same afterwards.

        Raises StageError if something that a stage reads is absent or cannot be reached.
        """
        before = [step.stage for step in self.steps if step.name != lineage.LAST]
        made = {out.def_path for stage in before for out in stage.outs}
        causes = {}
        for stage in before:
            try:
                with lock_repo(self.repo):
                    causes[stage.addressing] = _cause(stage, made)
            except Exception as error:  # each remote store raises kinds of its own
                raise StageError(
                    f"{stage.addressing}: its inputs must be there ({error})"
                ) from error
        return lineage.Lineage(causes, outputs={})

    def put_back(self, lock: bytes, names: list[str]) -> None:
        """Return `dvc.lock` and the outputs of the named stages to what `lock` says.

        What the last of them had written is kept below `.verbatim/failed/`.
        """
        failed = next(step.stage for step in self.steps if step.name == names[-1])
        for out in failed.outs:
            _keep(Path(out.fs_path), FAILED / names[-1])
        LOCK.write_bytes(lock)
        Repo(self.repo.root_dir).checkout(targets=names, force=True)


def _cause(stage: PipelineStage, made: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    hashes: dict[str, str] = {}
    for dep in stage.deps:
        if dep.def_path in made:
            continue
        found = dep.get_hash()  # unlike save(), leaves what `changed` compares with as it is
        if found.name == "params":
            values |= found.value
        else:
            hashes[dep.def_path] = found.value
    return lineage.cause(stage.cmd, values, hashes, made)


@rwlocked(read=["deps"], write=["outs"])  # type: ignore[untyped-decorator]
def _reproduce(stage: PipelineStage, emit: Callable[[str], None], *, force: bool) -> bool:
    """Restore the stage's outputs from the run cache, or run its command; tell which."""
    stage.remove_outs(ignore_remove=False, force=False)
    restored = not force and _restore(stage)
    if not restored:
        stage.save_deps()
        unlocked_repo(_execute)(stage, emit)
    stage.save()
    stage.commit()
    stage.dump(update_pipeline=False)
    return restored


def _restore(stage: PipelineStage) -> bool:
    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    return True


def _execute(stage: PipelineStage, emit: Callable[[str], None]) -> None:
    commands = stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines()
    settings = prepare_kwargs(stage)
    search = [str(Path(sys.executable).parent), settings["env"].get("PATH", "")]
    environment = {
        **settings["env"],
        "PATH": os.pathsep.join(search),
        "PYTHONUNBUFFERED": "1",
    }
    for command in commands:
        status, tail = _run(command, settings["cwd"], environment, emit)
        if status:
            raise CommandError(stage.addressing, status, tail)


def _run(
    command: str, folder: str, environment: dict[str, str], emit: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Run a command in a process group of its own, so that nothing of it outlives this call."""
    tail: list[str] = []
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout or []:
                tail = [*tail[-TAIL:], line.rstrip("\n")]
                emit(tail[-1])
            return process.wait(), tail
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _keep(made: Path, kept: Path) -> None:
    if made.exists():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(made, kept)
