"""Run the whole graph in a clean tree, from the first stage on, with nothing restored."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows import clones, process
from flows.process import CommandError
from tasks import files, lineage, store
from tasks.claim import Claim
from tasks.errors import StageError, TemporaryError

OURS = ("PREFECT_", "VERBATIM_", "MLFLOW_", "DVC_", "GIT_")
"""How the variables begin that would lead a stage elsewhere: to servers, checkpoints, caches."""

PYTHONS = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
"""Variables that would have Python import from elsewhere."""

REPRO = "python -m dvc repro --force --no-run-cache"
STAGE_FAILED = "failed to run"
"""What DVC says if it is the stage that has failed, and not DVC itself."""

PASSING = re.compile(
    r"exited with (-\d+|1(29|[345]\d|6[0-4]))\b"  # killed by a signal, as a shell tells it, too
    r"|No space left on device|Disk quota exceeded|Errno (28|122)\b"
    r"|MemoryError|Cannot allocate memory|Errno 12\b|bad_alloc|OutOfMemoryError"
    r"|memory allocation of \d+ bytes failed|(?i:out of memory)|cudaErrorMemoryAllocation"
)
"""What is said where the machine was at fault, so that nothing was found out of the model."""

SCRATCH, TEMPORARY = "registry/mlflow.db", "tmp"


@dataclass(frozen=True)
class Rebuilt:
    """A tree in which everything has run again.

    failure  why a stage did not, in its own words; empty if all did
    """

    tree: Path
    registry: Path
    failure: str = ""

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each output that was made, by path."""
        return self._locked("outs")

    @property
    def read(self) -> dict[str, str]:
        """The hash of each path that a stage has read, as it was then."""
        return self._locked("deps")

    def _locked(self, kind: str) -> dict[str, str]:
        lock = self.tree / "dvc.lock"
        stages = files.read_yaml(lock)["stages"] if lock.exists() else {}
        return {
            each["path"]: lineage.content_hash(each)
            for stage in stages.values()
            for each in stage.get(kind, [])
        }

    @property
    def model(self) -> Path | None:
        """The folder of the model as it was logged anew; None if it was not."""
        return _single(self.registry, "MLmodel")

    @property
    def environment(self) -> dict[str, str] | None:
        """The record of what it was computed on; None if nothing was recorded."""
        found = _single(self.registry, "environment.json")
        return None if found is None else files.read_json(found / "environment.json")


def _single(folder: Path, name: str) -> Path | None:
    found = sorted(folder.rglob(name))
    return found[0].parent if found else None


def run(
    tree: Path, claim: Claim, emit: Callable[[str], None], *, python: Path, place: Path
) -> Rebuilt:
    """Run all stages, the last one into a registry of its own; `emit` gets each line.

    python  of the environment to run in
    place   for settings, and for the registry

    Raises StageError if a process was killed, or memory or a disk was full, TemporaryError if
    something outside failed: that is no verdict.
    """
    registry = place / SCRATCH
    for folder in (registry.parent, place / TEMPORARY):
        folder.mkdir(parents=True)
    scratch = {"MLFLOW_TRACKING_URI": f"sqlite:///{registry}", **store.QUIET}
    before = [shlex.quote(name) for name in claim.lineage.causes]
    steps = (
        (f"{REPRO} {' '.join(before)}", _readable(claim) or scratch),
        (f"{REPRO} --single-item {lineage.LAST}", scratch),
    )
    settings = environment(os.environ, place)
    for command, address in steps:
        try:
            process.run(
                "prove",
                [command],
                folder=str(tree),
                environment={**settings, **address},
                emit=lambda line: emit(line) if line.strip() else None,
                python=python,
            )
        except CommandError as error:
            if command == steps[-1][0] and _is_refused_again(error, claim):
                break
            return Rebuilt(tree, registry.parent, _failure(error))
    return Rebuilt(tree, registry.parent)


def _readable(claim: Claim) -> dict[str, str]:
    """Say where the run lies that `evaluate` compares with; nothing if it compares with none."""
    if claim.lineage.parameters.get("evaluate.baseline_run_id") is None:
        return {}
    ours = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    return {**store.QUIET, **ours, "MLFLOW_TRACKING_URI": store.uri()}


def environment(inherited: Mapping[str, str], place: Path) -> dict[str, str]:
    """Give the variables for the stages: nothing that leads elsewhere, DVC's settings its own."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(OURS) and name not in PYTHONS
    }
    own = {f"DVC_{name}": str(place / "dvc") for name in ("SYSTEM_CONFIG_DIR", "GLOBAL_CONFIG_DIR")}
    own |= {"DVC_SITE_CACHE_DIR": str(place / "dvc/site"), "DVC_NO_ANALYTICS": "1"}
    return {**kept, **own, **clones.SILENT, "TMPDIR": str(place / TEMPORARY)}


def _is_refused_again(error: CommandError, claim: Claim) -> bool:
    """Tell whether the gate refused the model, as it is recorded to have done."""
    return error.kind == "GateError" and claim.gate.get("passed") is False


def _failure(error: CommandError) -> str:
    """Say why a stage has failed; raises StageError if that says nothing of the model."""
    said = "\n".join(error.lines)
    if error.killed or error.kind == "Interrupted" or PASSING.search(said):
        raise StageError(
            f"prove: the rebuild must run to its end (got {error.reason})\n"
            "next: see that there is memory and disk enough, and try again"
        ) from error
    if error.kind == "TemporaryError":
        raise TemporaryError(error.reason) from error
    if error.kind is None and STAGE_FAILED not in said:
        raise StageError(f"prove: DVC must run every stage (got {error.reason})") from error
    return error.reason
