"""Run the same stages as plain functions in one process: what orchestration is measured against."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro

from tasks import params


def main() -> None:
    """Call each stage's `run` with the paths that its command line in dvc.yaml names."""
    for stage in plan_repro(Repo().index.graph):
        module, *paths = stage.cmd.split(" python -m ")[1].split()
        run = importlib.import_module(module).run
        kinds = [parameter.annotation for parameter in inspect.signature(run).parameters.values()]
        typed = zip(paths, kinds, strict=False)  # the rest of the kinds are sections
        given = [path if kind == "str" else Path(path) for path, kind in typed]
        run(*given, **params.read(params.wanted_by(run)))


if __name__ == "__main__":
    main()
