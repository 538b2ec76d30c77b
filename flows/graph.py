"""Walk DVC's graph of stages in process: its skip decisions, its cache, its lock file.

Each step takes DVC's own calls in DVC's own order, so a run leaves what `dvc repro` leaves. What
differs: a stage's lines are handed on while it works, and no second `dvc` is started for it, which
would cost about a second a stage.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Any

from dvc.exceptions import CheckoutError, DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import plan_repro
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError, _can_hash
from dvc.stage.decorators import rwlocked, unlocked_repo
from dvc.stage.run import prepare_kwargs

from flows import process
from flows.share import Remote, is_locked
from flows.why import why
from tasks import lineage
from tasks.errors import ParamsError, StageError, VerbatimError

GRAPH, LOCK = "dvc.yaml", Path("dvc.lock")
FAILED = Path(".verbatim/failed")
"""Where what a failed stage wrote is kept when its last good outputs are put back."""


FORCED = "forced: what is known of it does not count"
"""What a stage says first that is run though it may be up to date."""


class Outcome(StrEnum):
    """What was done for a stage: nothing, a restore from this cache, or the remote, or its command.

    Its command may have run in a run of its own, on another work pool. The value is what people
    read.
    """

    UNCHANGED = "unchanged"
    RESTORED = "restored"
    FETCHED = "fetched"
    SENT = "ran elsewhere"
    RAN = "ran"


@dataclass(frozen=True)
class Step:
    """A stage as the flow sees it.

    retries  how often `dvc.yaml` lets a failure outside the stage be tried again
    guards   whether, after its failure, what was there before must stay
    pool     which pool of machines it is meant for; None: that of the flow
    """

    name: str
    retries: int
    guards: bool
    pool: str | None = None


@dataclass(frozen=True)
class Done:
    """What was done for a stage, and the hash of its output in `dvc.lock`."""

    outcome: Outcome
    output: str

    @property
    def ran(self) -> bool:
        """Whether the stage's command ran."""
        return self.outcome in {Outcome.RAN, Outcome.SENT}


class Graph:
    """The stages of the checkout in `root`, in the order in which they must run."""

    def __init__(self, root: Path = Path()) -> None:
        logging.getLogger("dvc").setLevel(logging.WARNING)  # the flow says what happened
        try:
            self.repo = Repo(str(root))
            self.steps = [_step(stage) for stage in plan_repro(self.repo.index.graph)]
            self.remote = Remote(self.repo)
        except DvcException as error:
            raise ParamsError(f"dvc.yaml: must be readable with params.yaml ({error})") from error

    def bring_up_to_date(
        self, step: Step, emit: Callable[[str], None], *, force: bool = False
    ) -> Done:
        """Do for one stage what `dvc repro --single-item --pull` and `dvc push` do.

        `emit` gets why the stage is not up to date, and each line it prints. Raises CommandError
        if the command fails, RemoteError if the default remote does, StageError if DVC refuses.
        """
        with self._stage(step.name) as stage:
            shutil.rmtree(FAILED / step.name, ignore_errors=True)
            if not force and not stage.changed():
                outcome = Outcome.UNCHANGED
            else:
                emit(FORCED if force else f"out of date: {why(stage)}")
                fetched = not force and self.remote.fetch(self._read(step.name))
                restored = _reproduce(stage, emit, force=force)
                found = Outcome.FETCHED if fetched else Outcome.RESTORED
                outcome = found if restored else Outcome.RAN
            self.remote.push(stage)
            return Done(outcome, ", ".join(out.hash_info.value for out in stage.outs))

    def bring_before(self, name: str) -> None:
        """Bring all stages before one up to date, such as those that make its source."""
        for step in takewhile(lambda step: step.name != name, self.steps):
            self.bring_up_to_date(step, lambda _: None)

    def stages(self, wanted: Sequence[str] = ()) -> list[PipelineStage]:
        """Give the stages that run a command, in the order in which they must.

        wanted  only these and what they need; all if none is named
        """
        graph = self.repo.index.graph
        last = [stage for stage in graph if stage.addressing in wanted] if wanted else None
        return [stage for stage in plan_repro(graph, last) if stage.cmd and not stage.frozen]

    def note(self, name: str) -> None:
        """Write into `dvc.lock` what a stage read and made, and keep nothing in the cache."""
        with self._stage(name) as stage:
            stage.save(run_cache=False)
            stage.dump(update_pipeline=False)

    @property
    def is_shared(self) -> bool:
        """Whether there is a remote from which other machines take results."""
        return self.remote.name is not None

    def lacks(self, step: Step) -> bool:
        """Tell whether the stage's command would have to run, after a look at the remote."""
        with self._stage(step.name) as stage:
            return stage.changed() and not self.remote.brings(self._read(step.name))

    def lineage(self) -> lineage.Lineage:
        """Foresee what the result comes from; `lineage.read` finds the same afterwards.

        Raises StageError if something that a stage reads is absent or cannot be reached.
        """
        names = [step.name for step in self.steps if step.name != lineage.LAST]
        made = {out.def_path for stage in self.repo.index.stages for out in stage.outs}
        with self._alone(GRAPH):
            stages = {stage.addressing: stage for stage in self.repo.stage.load_all()}
        causes = {}
        for name in names:
            with self._alone(name):
                causes[name] = _cause(stages[name], made)
        return lineage.Lineage(causes, outputs={})

    def put_back(self, lock: bytes, names: list[str]) -> None:
        """Return `dvc.lock` and the outputs of the named stages to what `lock` says.

        What the last of them had written is kept below `.verbatim/failed/`. An output never made
        here, as in a fresh clone, is absent afterwards.
        """
        with self._stage(names[-1]) as failed:
            for out in failed.outs:
                _keep(Path(out.fs_path), FAILED / names[-1])
            LOCK.write_bytes(lock)
        with suppress(CheckoutError):
            Repo(self.repo.root_dir).checkout(targets=names, force=True)

    @contextmanager
    def _stage(self, name: str) -> Iterator[PipelineStage]:
        """Lock the repository and read a stage anew.

        DVC writes into a stage what it finds on the way, so that one that has failed, or only been
        asked for its hashes, can take what is new for what was recorded.
        """
        with self._alone(name):
            yield self._read(name)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Lock the repository; raise StageError for what goes wrong with a stage."""
        try:
            with lock_repo(self.repo):
                yield
        except VerbatimError:
            raise
        except Exception as error:  # remote stores raise kinds of their own
            raise StageError(
                f"{name}: what it reads and writes must be within reach "
                f"(got {type(error).__name__}: {error})\n"
                "next: check the places named in params.yaml, such as ingest.source, and for "
                "remote ones the credentials in the environment"
            ) from error

    def _read(self, name: str) -> PipelineStage:
        return self.repo.stage.load_one(name=name)


def _step(stage: PipelineStage) -> Step:
    meta = stage.meta or {}
    retries, guards = int(meta.get("retries", 0)), bool(meta.get("guards", False))
    return Step(stage.addressing, retries, guards, meta.get("pool"))


def _cause(stage: PipelineStage, made: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    hashes: dict[str, str] = {}
    for dep in stage.deps:
        if dep.def_path in made:
            continue
        found = dep.get_hash()
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
    """Restore from the run cache; what reads remote files has none, and `dvc.lock` must know it."""
    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        if _can_hash(stage) or not is_locked(stage) or not stage.outs_cached():
            return False
        stage.checkout()
    return True


def _execute(stage: PipelineStage, emit: Callable[[str], None]) -> None:
    settings = prepare_kwargs(stage)
    place = {"folder": settings["cwd"], "environment": settings["env"]}
    process.run(stage.addressing, commands(stage), **place, emit=emit)


def commands(stage: PipelineStage) -> list[str]:
    """Give what a stage runs, one command after the other, with the parameters put in."""
    return list(stage.cmd) if isinstance(stage.cmd, list) else stage.cmd.splitlines()


def _keep(made: Path, kept: Path) -> None:
    if made.exists():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(made, kept)
