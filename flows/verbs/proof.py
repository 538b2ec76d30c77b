"""Verbs that test what is claimed: whether a model is what it says it is."""

from __future__ import annotations

import argparse
import signal

from flows.verbs.verb import Verb, reach_server
from tasks.errors import ParamsError


def prove(arguments: argparse.Namespace) -> int:
    """Rebuild a model from its commit and data, and compare every byte with what is stored."""
    from flows.proof.verdict import EXIT
    from flows.prove import prove as rebuild

    if arguments.target is not None and not arguments.target.strip():
        raise ParamsError("prove: TARGET must name something, or be left out (got nothing)")
    reach_server()
    state = rebuild(
        arguments.target or "",
        make_env=arguments.make_env,
        keep=arguments.keep,
        return_state=True,
    )
    if state.name == "Failed":
        print(state.message)
    return EXIT.get(state.name or "", 1)


def _prove_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="MODEL@ALIAS, MODEL/VERSION, the name or id of a run, or a git revision; "
        "default: one of all versions, by chance",
    )
    verb.add_argument(
        "--make-env",
        action="store_true",
        help="install the packages that the commit's lock names, if these here are others",
    )
    verb.add_argument("--keep", action="store_true", help="leave the rebuilt tree in place")
    verb.epilog = (
        "exit status: 0 reproduced; 1 differs, or lake, cache or commit were changed; "
        "3 cannot be proven, as when a source is gone"
    )


def doctor(arguments: argparse.Namespace) -> int:
    """Run each stage under varied conditions, and name those whose outputs depend on them."""
    from flows.doctor import visit

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no copy is left
    return 0 if visit.visit(arguments.stage) else 1


def _doctor_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("stage", metavar="STAGE", nargs="*", help="stages of dvc.yaml; default: all")


VERBS = (Verb(prove, _prove_options), Verb(doctor, _doctor_options))
