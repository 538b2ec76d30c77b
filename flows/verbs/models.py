"""Verbs about the models that are registered: who is champion, and why."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.verbs.verb import Verb, day, ended, reach_server


def promote(arguments: argparse.Namespace) -> int:
    """Make a version the champion, and say why."""
    from flows import promotion

    reach_server()
    asked = {"version": arguments.version, "reason": arguments.reason, "force": arguments.force}
    return _decided(promotion.promote(**asked, return_state=True))


def _promote_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("version", metavar="VERSION", type=int, help="of the registered model")
    _let_say_why(verb)


def rollback(arguments: argparse.Namespace) -> int:
    """Make the version champion again that was so before, and say why."""
    from flows import promotion

    reach_server()
    asked = {"reason": arguments.reason, "force": arguments.force}
    return _decided(promotion.rollback(**asked, return_state=True))


def _let_say_why(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--reason", required=True, metavar="WHY", help="kept in the ledger")
    verb.add_argument("--force", action="store_true", help="even if it did not pass the gate")


def _decided(state: Any) -> int:
    status = ended(state)
    print("next  python -m flows ledger")
    return status


def ledger(arguments: argparse.Namespace) -> int:
    """Print every decision about who is champion; tell if one was changed or is missing."""
    from flows import decisions
    from tasks import params, registry
    from tasks.register import Register

    name = arguments.model or params.read({"register": Register})["register"].model_name
    with registry.looked_at(name) as models:
        found, faults = decisions.of(models)
    if arguments.json:
        print(json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=False))
    else:
        decisions.show(name, found, faults)
    return 1 if faults else 0


def _ledger_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "model", metavar="MODEL", nargs="?", help="default: register.model_name of params.yaml"
    )
    verb.add_argument("--json", action="store_true", help="all that is kept, with the evidence")


def score(arguments: argparse.Namespace) -> int:
    """Score everybody who is known on a day with the champion, into Parquet files."""
    from flows import preflight

    preflight.check(needed=("score",), here=False)
    from flows.scoring import score as score_all

    reach_server()
    return ended(score_all(as_of=arguments.as_of, return_state=True), silent=True)


def _let_say_when(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--as-of",
        type=day,
        metavar="DATE",
        help="only events before DATE are known; by default the day after the newest event",
    )


def monitor(arguments: argparse.Namespace) -> int:
    """Tell whether the world has drifted from what the champion has learned."""
    from flows import preflight

    preflight.check(needed=("monitor",), here=False)
    from flows.monitor import monitor as look

    reach_server()
    return ended(look(as_of=arguments.as_of, return_state=True), silent=True)


def replay(arguments: argparse.Namespace) -> int:
    """Live the nights of some months again, and draw the life of the model in one picture."""
    from flows import preflight

    preflight.check(needed=("promote", "score", "monitor", "replay"))
    for name in [name for name in os.environ if name.startswith("PREFECT_API_")]:
        del os.environ[name]  # nobody is to be told of what was long ago
    home = Path(".verbatim/replay/prefect").resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    from flows.replay import replay as live

    return ended(live(arguments.first, arguments.last, return_state=True))


def _replay_options(verb: argparse.ArgumentParser) -> None:
    for option, name, words in (
        ("--from", "first", "the first night knows what happened before it"),
        ("--to", "last", "the last night, if the steps between meet it"),
    ):
        verb.add_argument(
            option,
            dest=name,
            required=True,
            metavar="DATE",
            type=day,
            help=words,
        )


VERBS = (
    Verb(promote, _promote_options),
    Verb(rollback, _let_say_why),
    Verb(ledger, _ledger_options),
    Verb(score, _let_say_when),
    Verb(monitor, _let_say_when),
    Verb(replay, _replay_options),
)
