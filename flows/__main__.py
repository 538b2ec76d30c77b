"""The command line: `python -m flows VERB`; each verb says what it did and what to type next."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar
from uuid import UUID

from tasks.errors import StageError, VerbatimError

Number = TypeVar("Number", int, float)

INTERRUPTED = 128 + signal.SIGINT
SECONDS_TO_SAY_GOODBYE = 5.0
"""To the Prefect server and to MLflow, after the stage has stopped."""


def train(arguments: argparse.Namespace) -> int:
    """Bring the model of this checkout up to date, evaluate it and register it."""
    from flows import preflight

    preflight.override(arguments.set)
    if arguments.dataset_version is not None:
        preflight.override([f"ingest.dataset_version={_version(arguments.dataset_version)}"])
    preflight.check()
    from flows.training import training  # Prefect takes two seconds; wrong parameters should not

    _reach_server()
    state = training(force=arguments.force, return_state=True)
    return 0 if state.is_completed() else 1


def sweep(arguments: argparse.Namespace) -> int:
    """Search the hyperparameters of the learner in use; go on with a search that was cut off."""
    from flows import preflight

    preflight.override(arguments.set)
    preflight.check(needed=("sweep",))
    from flows.sweep.flow import sweep as search

    _reach_server()
    state = search(apply=arguments.apply, train=arguments.train, return_state=True)
    return 0 if state.is_completed() else 1


def profile(_arguments: argparse.Namespace) -> int:
    """Tell what memory the network takes on your table: which micro-batch fits, which GPU does."""
    from flows import profile

    profile.profile()
    return 0


def up(_arguments: argparse.Namespace) -> int:
    """Start the whole system on this machine: servers, store, workers, deployments."""
    from flows.system import lifecycle

    lifecycle.up()
    return 0


def down(_arguments: argparse.Namespace) -> int:
    """Stop the system that `up` has started; all it knows stays."""
    from flows.system import lifecycle

    lifecycle.down()
    return 0


def prepare(_arguments: argparse.Namespace) -> int:
    """Make bucket, work pools, deployments and automations on servers that run; `up` does so."""
    from flows.system import prepare

    _reach_server()
    prepare.everything()
    return 0


def reconcile(arguments: argparse.Namespace) -> int:
    """Close what dead flow runs left open, and have those run again that were preempted."""
    from flows.reconcile import reconcile as settle

    _reach_server()
    state = settle(arguments.flow_run_id, return_state=True)
    return 0 if state.is_completed() else 1


def worker(arguments: argparse.Namespace) -> int:
    """Work for a pool; stop when no run has come for long, so that a GPU machine is given back."""
    from flows import worker

    _reach_server()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as Prefect's own worker has it
    worker.work(
        arguments.pool,
        idle_timeout_minutes=arguments.idle_timeout_minutes,
        limit=arguments.limit,
    )
    return 0


def _reach_server() -> None:
    """Raise StageError if a Prefect server was asked for and does not answer."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    if (address := PREFECT_API_URL.value()) is None:
        return  # a temporary server will be started
    with get_client(sync_client=True) as client:
        if (reason := client.api_healthcheck()) is not None:
            raise StageError(
                f"PREFECT_API_URL: a Prefect server must answer at {address} (got {reason})\n"
                "next: `prefect server start`, or `unset PREFECT_API_URL` for a temporary one"
            )


def _version(wanted: str) -> str:
    """Resolve `latest` to a date, so that what ran is always written down."""
    if wanted != "latest":
        return f"'{wanted}'"
    from tasks import params
    from tasks.ingest import Ingest, latest

    ingest = params.read({"ingest": Ingest})["ingest"]
    return f"'{latest(ingest.source, ingest.time_column)}'"


def parser() -> argparse.ArgumentParser:
    """Describe every verb."""
    root = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    verbs = root.add_subparsers(metavar="VERB", required=True)
    verb = verbs.add_parser("train", help=train.__doc__, description=train.__doc__)
    verb.set_defaults(run=train)
    verb.add_argument(
        "--dataset-version",
        metavar="DATE|latest",
        help="train on the events before DATE, or on all there are; written into params.yaml",
    )
    _let_set(verb)
    verb.add_argument("--force", action="store_true", help="run every stage, cached or not")
    verb = verbs.add_parser("sweep", help=sweep.__doc__, description=sweep.__doc__)
    verb.set_defaults(run=sweep)
    _let_set(verb)
    verb.add_argument("--apply", action="store_true", help="write the winner into params.yaml")
    verb.add_argument(
        "--train", action="store_true", help="write it, and train and register with it"
    )
    for simple in (profile, up, down, prepare):
        words = simple.__doc__
        verb = verbs.add_parser(simple.__name__, help=words, description=words)
        verb.set_defaults(run=simple)
    verb = verbs.add_parser("reconcile", help=reconcile.__doc__, description=reconcile.__doc__)
    verb.set_defaults(run=reconcile)
    verb.add_argument(
        "flow_run_id", metavar="ID", nargs="?", type=UUID, help="one flow run; default: all"
    )
    verb = verbs.add_parser("worker", help=worker.__doc__, description=worker.__doc__)
    verb.set_defaults(run=worker)
    verb.add_argument("--pool", required=True, metavar="NAME", help="the work pool, of any type")
    verb.add_argument(
        "--idle-timeout-minutes",
        type=_above(0.0),
        default=15.0,
        metavar="MINUTES",
        help="stop after so long without a run; fractions are fine (default: 15)",
    )
    verb.add_argument(
        "--limit", type=_above(0), metavar="RUNS", help="most runs at a time (default: no limit)"
    )
    return root


def _above(least: Number) -> Callable[[str], Number]:
    """Give what reads an option: a number of the same type as `least`, above it and finite."""

    def read(text: str) -> Number:
        number = type(least)(text)
        if not least < number < math.inf:
            raise argparse.ArgumentTypeError(f"must be above {least} (got {text})")
        return number

    read.__name__ = "number"  # what argparse calls it in its messages
    return read


def _let_set(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="write a parameter into params.yaml first, as `dvc exp run -S` does (repeatable)",
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop as Ctrl-C does, but do not wait for a server that Ctrl-C has ended, too."""
    threading.Thread(target=_leave, daemon=True).start()
    signal.default_int_handler(number, frame)


def _leave() -> None:
    from flows import process

    process.IDLE.wait(process.GRACE_SECONDS)
    time.sleep(SECONDS_TO_SAY_GOODBYE)
    os._exit(INTERRUPTED)


def main() -> int:
    """Run one verb; give its exit status."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        return int(arguments.run(arguments))
    except VerbatimError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
