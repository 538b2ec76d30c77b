"""Two copies of the checkout to run stages in, and how stages run there.

In the usual one the whole pipeline runs once, as it stands. The other lies deeper, and gets what a
stage reads from the first. Both have a store of their own for what is registered.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.stage import PipelineStage
from dvc.stage.run import prepare_kwargs

from flows import clones, process
from flows.doctor import listing
from flows.graph import LOCK, Graph, commands
from tasks import store
from tasks.errors import StageError

READS_RECORD = "evaluate"
"""The stage that may read the store in use, for evaluate.baseline_run_id; others never see it."""


@dataclass(frozen=True)
class Made:
    """What a stage reads and makes within the checkout, relative to it."""

    name: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]


USUAL, OTHER = Path("usual/checkout"), Path("other/one/two/three/checkout")


@contextmanager
def laid_out(names: Sequence[str], *, is_judged: bool) -> Iterator[Places]:
    """Copy this checkout twice, and work in the first copy; afterwards both are gone.

    is_judged  whether `evaluate` compares with a run of the store in use

    Raises StageError if there is no git checkout, a stage writes elsewhere, or what it reads is not
    there.
    """
    home, address = Path.cwd(), store.uri() if is_judged else None
    with tempfile.TemporaryDirectory(prefix="verbatim-doctor-") as folder:
        root = Path(folder).resolve()
        for place in (root / USUAL, root / OTHER):
            place.parent.mkdir(parents=True)
            clones.clone(place, cache=root / "cache", site=root / "site")
        with chdir(root / USUAL):
            yield Places(root, home, names, address)


class Places:
    """Both copies below a folder of ours, in which the named stages of `home` can run.

    address  of the store that `evaluate` reads, if it reads one
    """

    def __init__(self, root: Path, home: Path, names: Sequence[str], address: str | None) -> None:
        self.root, self.usual, self.other = root, root / USUAL, root / OTHER
        self._home, self._address, self._runs = home, address, 0
        self.graph = Graph()
        stages = {stage.addressing: stage for stage in self.graph.stages()}
        self._stages = {name: stages[name] for name in names}
        self.made = {name: _made(stage, self.usual) for name, stage in self._stages.items()}
        self._bring_sources()

    def _bring_sources(self) -> None:
        """Copy what stages read, none of them makes, and git does not hold."""
        made = [path for each in self.made.values() for path in each.outputs]
        for each in self.made.values():
            for path in each.inputs:
                is_made = any(path.is_relative_to(output) for output in made)
                if is_made or (self.usual / path).exists():
                    continue
                if not (self._home / path).exists():
                    raise StageError(
                        f"{each.name}: {path} must be there\nnext: dvc pull {path}, or make it"
                    )
                carry(self._home / path, self.usual / path)

    def run(
        self,
        name: str,
        place: Path,
        variables: Mapping[str, str],
        emit: Callable[[str], None],
    ) -> None:
        """Run a stage's commands in a copy, where its outputs are removed before.

        Raises CommandError if a command fails.
        """
        stage = self._stages[name]
        for path in self.made[name].outputs:
            remove(place / path)
            (place / path).parent.mkdir(parents=True, exist_ok=True)
        inside = Path(stage.wdir).relative_to(self.usual)
        environment = self._environment(stage, place, variables)
        process.run(
            name,
            commands(stage),
            folder=str(place / inside),
            environment=environment,
            emit=emit,
        )

    def _environment(
        self, stage: PipelineStage, place: Path, variables: Mapping[str, str]
    ) -> dict[str, str]:
        """Give the variables of a run: of the user's none that leads to what is in use."""
        self._runs += 1
        own = self.root / f"runs/{self._runs}"
        own.mkdir(parents=True)
        given = prepare_kwargs(stage)["env"]
        search = [str(Path(listing.__file__).parent), given.get("PYTHONPATH", "")]
        found = {
            **{name: each for name, each in given.items() if name not in clones.LEADING_OUT},
            **clones.SILENT,
            **variables,
            "DVC_ROOT": str(place),
            "PYTHONPATH": os.pathsep.join(filter(None, search)),
            "VERBATIM_LISTED_BELOW": str(place),
            "MLFLOW_TRACKING_URI": f"sqlite:///{own}/mlflow.db",
            "VERBATIM_CHECKPOINTS": str(own / "checkpoints"),
        }
        if self._address is not None and stage.addressing == READS_RECORD:
            found["MLFLOW_TRACKING_URI"] = self._address
        return found

    def hand_over(self, name: str, *, shuffled: bool) -> None:
        """Give the other copy what the stage reads, as it is in the usual one."""
        for path in self.made[name].inputs:
            remove(self.other / path)
            carry(self.usual / path, self.other / path, shuffled=shuffled)
        if (self.usual / LOCK).exists():
            shutil.copy(self.usual / LOCK, self.other / LOCK)

    @contextmanager
    def aside(self, paths: Sequence[Path]) -> Iterator[Path]:
        """Put something of the usual copy aside, and give where; afterwards it is back."""
        with tempfile.TemporaryDirectory(dir=self.root) as place, ExitStack() as back:
            for path in paths:
                kept = Path(place) / path
                kept.parent.mkdir(parents=True, exist_ok=True)
                (self.usual / path).rename(kept)
                back.callback(_put_back, kept, self.usual / path)
            yield Path(place)


def _put_back(kept: Path, path: Path) -> None:
    remove(path)
    kept.rename(path)


def _made(stage: PipelineStage, root: Path) -> Made:
    """Name what a stage reads and makes in the checkout; what it reads elsewhere is left there.

    Raises StageError if it writes elsewhere.
    """
    inputs = tuple(path for dep in stage.deps if (path := _inside(dep, root)) is not None)
    outputs = tuple(path for out in stage.outs if (path := _inside(out, root)) is not None)
    if len(outputs) < len(stage.outs):
        abroad = ", ".join(str(out) for out in stage.outs if _inside(out, root) is None)
        raise StageError(
            f"{stage.addressing}: must write within the checkout only, to be run on trial "
            f"(got {abroad})\nnext: python -m flows doctor with names of stages that do"
        )
    return Made(stage.addressing, inputs, outputs)


def _inside(entry: Any, root: Path) -> Path | None:
    path = Path(entry.fs_path)
    is_here = entry.protocol == "local" and path.is_relative_to(root)
    return path.relative_to(root) if is_here else None


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def carry(source: Path, target: Path, *, shuffled: bool = False) -> None:
    """Copy a file or folder, its files in the order of their names or shuffled; times are new."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(source.rglob("*"))
    if shuffled:
        random.Random(len(paths)).shuffle(paths)  # noqa: S311 - an order like any other
    for path in paths:
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
