"""The command line: `python -m flows VERB`; each verb says what it did and what to type next."""

from __future__ import annotations

import argparse
import sys

from tasks.errors import VerbatimError


def train(arguments: argparse.Namespace) -> int:
    """Bring the model of this checkout up to date, evaluate it and register it."""
    from flows import preflight

    settings = list(arguments.set)
    if arguments.dataset_version:
        settings.append(f"ingest.dataset_version={_version(arguments.dataset_version)}")
    preflight.override(settings)
    preflight.check()
    from flows.training import training  # Prefect takes two seconds; wrong parameters should not

    state = training(force=arguments.force, return_state=True)
    return 0 if state.is_completed() else 1


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
    verb.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="write a parameter into params.yaml first, as `dvc exp run -S` does (repeatable)",
    )
    verb.add_argument("--force", action="store_true", help="run every stage, cached or not")
    return root


def main() -> int:
    """Run one verb; give its exit status."""
    arguments = parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except VerbatimError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
