"""Prepare the workspace of a run and run its flow in one process, where Prefect takes two.

Prefect 3.8 has one process clone the repository, and then starts Python anew in its place for the
flow, which imports Prefect once more: a second and more of every click. A worker that called
`use` starts this file instead, which hands over to Prefect's engine as it is. It is started by its
path, without its folder among those of modules, and imports nothing of this checkout: the flow's
code is that of the clone.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from prefect.runner import _workspace_starter as starter
from prefect.runner import _workspace_supervisor as supervisor
from prefect.utilities import processutils

ENGINE = "prefect.engine"
NEEDED = ("networkx", "numpy", "polars", "pyparsing")
"""What any flow here imports, while the clone is awaited; of them, Prefect imports none."""
Prepared = tuple[list[str], Path, dict[str, str]]
"""What would be started: its command, folder and environment."""


def use() -> None:
    """Have the workers of this process start runs of process pools by this file."""
    spelled = processutils.command_to_string

    def command(words: list[str]) -> str:
        python, *rest = words
        if rest[:2] == ["-m", supervisor.__name__]:
            rest = ["-P", str(Path(__file__).resolve()), *rest[2:]]
        return spelled([python, *rest])

    vars(starter)["command_to_string"] = command


def main() -> int:
    """Prepare what the file says that is named on the command line, and run it."""
    prepared = list[Prepared]()

    async def take(command: list[str], *, cwd: Path, environment: dict[str, str]) -> int:
        prepared.append((command, cwd, environment))
        return 0

    supervisor._launch_engine = take  # noqa: SLF001 - where Prefect's own process ends
    importing = threading.Thread(target=lambda: [import_module(name) for name in NEEDED])
    importing.start()
    status = supervisor.main()
    importing.join()
    for each in prepared:  # none, if something went wrong, which has been told
        run(*each)
    return status


def run(command: list[str], folder: Path, environment: dict[str, str]) -> NoReturn:
    """Become what Prefect would start: its engine here, anything else by its command."""
    os.chdir(folder)
    if command[1:] != ["-m", ENGINE]:
        os.execvpe(command[0], command, environment)  # noqa: S606 - Prefect gives it so
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [str(folder), *filter(None, paths)]
    sys.argv = [ENGINE]
    sys.modules.pop(ENGINE, None)  # a library until now, and a program from here on
    runpy.run_module(ENGINE, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    sys.exit(main())
