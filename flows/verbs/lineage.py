"""The verb that tells where a model comes from."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flows.verbs.verb import Verb
from tasks.errors import ParamsError

if TYPE_CHECKING:  # it takes half a second, and `--help` should not
    from tasks.claim import Claim


def lineage(arguments: argparse.Namespace) -> int:
    """Tell where a model comes from, who ever saw a file, or why two models differ."""
    if arguments.uses is not None and arguments.target is not None:
        raise ParamsError(
            "lineage: must be asked for TARGET, for two targets, or for --uses (got both)\n"
            "next: python -m flows lineage --help"
        )
    if arguments.uses is not None:
        return _uses(arguments.uses, everything=arguments.all, as_json=arguments.json)
    if arguments.other is not None:
        return _compare(arguments.target, arguments.other, as_json=arguments.json)
    return _descent(arguments.target, as_json=arguments.json)


def _descent(target: str | None, *, as_json: bool) -> int:
    from flows import lineage_report
    from tasks import descent

    found = descent.of(_claim(target))
    if as_json:
        print(json.dumps(found, indent=2, default=str))
    else:
        lineage_report.show(lineage_report.tree(found))
    return 0


NEWEST = 10
"""How many runs a server is asked for unless all are wanted."""


def _uses(what: str, *, everything: bool, as_json: bool) -> int:
    from flows import lineage_report
    from tasks import sightings

    wanted = sightings.wanted(what, Path())
    answer = sightings.find(wanted, None if everything else NEWEST)
    if as_json:
        told = {"runs": [asdict(each) for each in answer.found], "is_cut": answer.is_cut}
        print(json.dumps({**told, "unlooked": answer.unlooked}, indent=2))
        return 0 if answer.found else 1
    if answer.found:
        print("\n".join(lineage_report.sightings(wanted.title, answer.found)))
    else:
        is_there = Path(what).exists()
        alike = sightings.find(sightings.by_name(what, Path()), NEWEST).found if is_there else []
        print("\n".join(lineage_report.unseen(wanted, alike)))
    for line in lineage_report.beyond(answer, NEWEST):
        print(line)
    return 0 if answer.found else 1


def _compare(one: str, other: str, *, as_json: bool) -> int:
    from flows import lineage_report
    from tasks import comparison

    claims = _claim(one), _claim(other)
    found = comparison.of(*claims)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
    else:
        for line in lineage_report.explain(
            (_named(one, claims[0]), _named(other, claims[1])), found
        ):
            print(line)
    return 0


def _claim(target: str | None) -> Claim:
    """Find what is named, or what `dvc.lock` of this checkout describes."""
    from tasks import claim, params, revision
    from tasks.register import Register

    register = params.read({"register": Register})["register"]
    names = {
        "experiment": register.experiment,
        "model_name": register.model_name,
        "alias": register.stage,
    }
    if target is None:
        return revision.of_checkout(**names)
    return claim.found(target, register.model_name) or revision.of_git(target, **names)


def _named(target: str, claim: Claim) -> str:
    """Give what was typed, and what it is unless that is plain."""
    version = claim.version
    plain = {claim.run_name, ""} if version is None else {f"{claim.model_name}/{version.number}"}
    is_plain = target in plain or not claim.title
    return target if is_plain else f"{target} ({claim.title})"


def _lineage_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="MODEL@ALIAS, MODEL/VERSION, a run's name or id, or a revision of git; "
        "default: what dvc.lock of this checkout describes",
    )
    verb.add_argument(
        "other", metavar="OTHER", nargs="?", help="of the same kinds: why it differs from TARGET"
    )
    verb.add_argument(
        "--uses",
        metavar="FILE|HASH",
        help="list all runs and versions that ever saw these bytes: a file or folder, the first 8 "
        "or more digits of an MD5, SHA-256 or ETag, or the path of a file that is gone",
    )
    verb.add_argument(
        "--all", action="store_true", help=f"of a server, more than the newest {NEWEST} runs"
    )
    verb.add_argument("--json", action="store_true", help="all of it, for programs")


VERBS = (Verb(lineage, _lineage_options),)
