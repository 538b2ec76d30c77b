"""Turn a stage's `run` into a command line, and leave what the stage cost in a side file.

The positional arguments of `run` are paths and come from the command line; its keyword-only
arguments come from `params.yaml`. Errors meant for the user are printed without a traceback, and
the exit status says whether trying again can help: EX_TEMPFAIL if something outside failed,
EX_DATAERR if the same input must fail again, 128 and the signal's number if one asked to stop.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import inspect
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

from tasks import params, processes
from tasks.errors import Interrupted, TemporaryError, VerbatimError

PR_SET_PDEATHSIG = 1
"""The number of this request to the kernel, from linux/prctl.h."""

COSTS = Path(".verbatim/costs")
"""Where each stage leaves its wall seconds and peak memory: measured, so never a DVC output."""


def main(run: Callable[..., None], arguments: list[str] | None = None) -> None:
    """Run a stage from its command line; end it when the process that started it ends."""
    _end_with_parent()
    stage = Path(inspect.getfile(run)).stem
    paths = vars(_parser(run, stage).parse_args(arguments))
    started = time.perf_counter()
    try:
        run(*paths.values(), **params.read(params.wanted_by(run)))
    except VerbatimError as error:
        if processes.is_first() or not isinstance(error, Interrupted):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(_status(error))
    if processes.is_first():
        _leave_costs(stage, time.perf_counter() - started, digest(list(paths.values())[-1]))


def _status(error: VerbatimError) -> int:
    if isinstance(error, Interrupted):
        return 128 + error.signal
    return os.EX_TEMPFAIL if isinstance(error, TemporaryError) else os.EX_DATAERR


def _end_with_parent() -> None:
    """Ask Linux to stop this process when its parent is gone, so that nobody writes unwatched.

    By SIGTERM, so that `train` can keep its state: a `dvc repro` that is stopped just dies.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _parser(run: Callable[..., None], stage: str) -> argparse.ArgumentParser:
    module = sys.modules[run.__module__]
    parser = argparse.ArgumentParser(
        prog=f"python -m tasks.{stage}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="sections of params.yaml: " + ", ".join(params.wanted_by(run)),
    )
    kinds = get_type_hints(run)
    for name, parameter in inspect.signature(run).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            parser.add_argument(name, type=kinds[name])
    return parser


def digest(folder: Path) -> str:
    """Hash the files of a folder: SHA-256 over their sorted relative paths and bytes."""
    found = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        for part in (str(path.relative_to(folder)).encode(), path.read_bytes()):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def _leave_costs(stage: str, seconds: float, outputs: str) -> None:
    """Write `.verbatim/costs/<stage>.json`: wall seconds, peak memory in MiB, and of what."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # of these the greatest one's
    peak = max(resource.getrusage(each).ru_maxrss for each in whose) / 1024
    COSTS.mkdir(parents=True, exist_ok=True)
    partial = COSTS / f"{stage}.{os.getpid()}.tmp"
    costs = {"wall_seconds": seconds, "peak_memory_mib": peak, "outputs": outputs}
    partial.write_text(json.dumps(costs))
    partial.replace(COSTS / f"{stage}.json")
