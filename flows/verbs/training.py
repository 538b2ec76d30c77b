"""Verbs that train: on the checkout you stand in."""

from __future__ import annotations

import argparse

from flows.verbs.verb import Verb, ended, let_set, reach_server


def train(arguments: argparse.Namespace) -> int:
    """Bring the model of this checkout up to date, evaluate it and register it."""
    from flows import preflight

    preflight.override(arguments.set)
    if arguments.dataset_version is not None:
        preflight.override([f"ingest.dataset_version={_version(arguments.dataset_version)}"])
    preflight.check(needed=("promote",) if arguments.judge else ())
    from flows.training import training  # Prefect takes two seconds; wrong parameters should not

    reach_server()
    state = training(judge=arguments.judge, force=arguments.force, return_state=True)
    return ended(state) if arguments.judge else int(not state.is_completed())


def _version(wanted: str) -> str:
    """Resolve `latest` to a date, so that what ran is always written down."""
    if wanted != "latest":
        return f"'{wanted}'"
    from tasks import params
    from tasks.ingest import Ingest, latest

    ingest = params.read({"ingest": Ingest})["ingest"]
    return f"'{latest(ingest.source, ingest.time_column)}'"


def _train_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--dataset-version",
        metavar="DATE|latest",
        help="train on the events before DATE, or on all there are; written into params.yaml",
    )
    let_set(verb)
    verb.add_argument(
        "--judge",
        action="store_true",
        help="hold the result against the champion, and promote it if it is better",
    )
    verb.add_argument("--force", action="store_true", help="run every stage, cached or not")


def sweep(arguments: argparse.Namespace) -> int:
    """Search the hyperparameters of the learner in use; go on with a search that was cut off."""
    from flows import preflight

    preflight.override(arguments.set)
    preflight.check(needed=("sweep",))
    from flows.sweep.flow import sweep as search

    reach_server()
    state = search(apply=arguments.apply, train=arguments.train, return_state=True)
    return 0 if state.is_completed() else 1


def _sweep_options(verb: argparse.ArgumentParser) -> None:
    let_set(verb)
    verb.add_argument("--apply", action="store_true", help="write the winner into params.yaml")
    verb.add_argument(
        "--train", action="store_true", help="write it, and train and register with it"
    )


def profile(_arguments: argparse.Namespace) -> int:
    """Tell what memory the network takes on your table: which micro-batch fits, which GPU does."""
    from flows import profile

    profile.profile()
    return 0


VERBS = (Verb(train, _train_options), Verb(sweep, _sweep_options), Verb(profile))
