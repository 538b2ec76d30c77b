"""What has to travel with a model so that it runs without this repository: code and requirements.

Both are read off the imports of `serving.py`, so a new learner needs no list to be kept. The code
of all learners travels, but only what the model's own learner imports must be installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from modulefinder import ModuleFinder
from pathlib import Path
from shutil import copyfile

from tasks import environment
from tasks.models import Models, known

SERVING = Path(__file__).with_name("serving.py")

TRAINING = ("tasks.checkpoints", "tasks.processes")
"""What learners import to train: the code travels, but a served model needs nothing it imports."""

UNSEEN = ("pyarrow",)
"""Polars takes pandas columns by way of it, without an import that could be seen."""


@dataclass(frozen=True)
class Needs:
    """The files of this package, and the top-level names of everything else, that code imports."""

    modules: tuple[Path, ...]
    others: tuple[str, ...]


def needs(script: Path = SERVING, *, without: Sequence[str] = ()) -> Needs:
    """Follow the imports of `script` through this package, those inside functions included.

    without  modules that are passed by
    """
    package = Path(__file__).parent
    finder = ModuleFinder(path=[str(package.parent)], excludes=without)
    finder.run_script(str(script))
    found = (getattr(module, "__file__", None) for module in finder.modules.values())
    modules = sorted(Path(path) for path in found if path and Path(path) != script)
    return Needs(tuple(modules), tuple(sorted({name.split(".")[0] for name in finder.badmodules})))


def copy_code(folder: Path, script: Path = SERVING) -> Path:
    """Copy the needed part of this package into `folder`, without caches; give its place."""
    package = Path(__file__).parent
    for module in needs(script).modules:
        copy = folder / package.name / module.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copyfile(module, copy)
    return folder / package.name


def requirements(model: str, lock: Path = environment.LOCK, script: Path = SERVING) -> list[str]:
    """Give `name==version`, as locked, for each package that a learner's model imports."""
    pins, owners = environment.pins(lock), packages_distributions()
    without = [module for name, module in learners().items() if name != known(model)]
    names = needs(script, without=[*TRAINING, *without]).others
    imported = {owner for name in names for owner in owners.get(name, [])}
    wanted = sorted({environment.normal(name) for name in [*imported, *UNSEEN]})
    return [f"{name}=={pins[name]}" for name in wanted if name in pins]


def learners() -> dict[str, str]:
    """Give the module that each learner is defined in."""
    return {name: field.annotation.__module__ for name, field in Models.model_fields.items()}
