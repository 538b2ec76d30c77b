"""Verbs that run the system: its servers, workers, and what dead runs leave open."""

from __future__ import annotations

import argparse
import signal
from uuid import UUID

from flows.verbs.verb import Verb, above, reach_server


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
    from flows.system.settings import System

    address = System.load().notify_url
    reach_server()
    print(prepare.everything(address))
    return 0


def reconcile(arguments: argparse.Namespace) -> int:
    """Close what dead flow runs left open, and have those run again that were preempted."""
    from flows.reconcile import reconcile as settle

    reach_server()
    state = settle(arguments.flow_run_id, return_state=True)
    return 0 if state.is_completed() else 1


def _reconcile_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "flow_run_id", metavar="ID", nargs="?", type=UUID, help="one flow run; default: all"
    )


def worker(arguments: argparse.Namespace) -> int:
    """Work for a pool; stop when no run has come for long, so that a GPU machine is given back."""
    from flows import worker

    reach_server()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as Prefect's own worker has it
    worker.work(
        arguments.pool,
        idle_timeout_minutes=arguments.idle_timeout_minutes,
        limit=arguments.limit,
    )
    return 0


def _worker_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--pool", required=True, metavar="NAME", help="the work pool, of any type")
    verb.add_argument(
        "--idle-timeout-minutes",
        type=above(0.0),
        default=15.0,
        metavar="MINUTES",
        help="stop after so long without a run; fractions are fine (default: 15)",
    )
    verb.add_argument(
        "--limit", type=above(0), metavar="RUNS", help="most runs at a time (default: no limit)"
    )


VERBS = (
    Verb(up),
    Verb(down),
    Verb(prepare),
    Verb(reconcile, _reconcile_options),
    Verb(worker, _worker_options),
)
