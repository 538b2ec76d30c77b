"""Run the whole graph in a clean tree, from the first stage on, with nothing restored."""

from __future__ import annotations

import os
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
        lock = self.tree / "dvc.lock"
        stages = files.read_yaml(lock)["stages"] if lock.exists() else {}
        return {
            out["path"]: lineage.content_hash(out)
            for stage in stages.values()
            for out in stage.get("outs", [])
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

    Raises StageError if a process was killed, TemporaryError if something outside failed: that is
    no verdict.
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
            if (failure := _failure(error, claim)) is not None:
                return Rebuilt(tree, registry.parent, failure)
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


def _failure(error: CommandError, claim: Claim) -> str | None:
    """Say why a stage has failed; None if it refused the model that was refused then, too."""
    if error.kind == "GateError" and not claim.gate.get("passed"):
        return None
    if error.killed:
        raise StageError(f"prove: the rebuild was {error.reason}") from error
    if error.kind == "TemporaryError":
        raise TemporaryError(error.reason) from error
    if error.kind is None and STAGE_FAILED not in "\n".join(error.lines):
        raise StageError(f"prove: DVC must run every stage (got {error.reason})") from error
    return error.reason
