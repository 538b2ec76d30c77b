"""The command line: `python -m flows VERB`; each verb says what it did and what to type next."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from types import FrameType

from flows.verbs import lineage, models, proof, system, training
from tasks.errors import VerbatimError

INTERRUPTED = 128 + signal.SIGINT
SECONDS_TO_SAY_GOODBYE = 5.0
"""To the Prefect server and to MLflow, after the stage has stopped."""


def parser() -> argparse.ArgumentParser:
    """Describe every verb."""
    root = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    verbs = root.add_subparsers(metavar="VERB", required=True)
    for verb in (*training.VERBS, *models.VERBS, *lineage.VERBS, *proof.VERBS, *system.VERBS):
        words = verb.run.__doc__
        described = verbs.add_parser(verb.name, help=words, description=words)
        described.set_defaults(run=verb.run)
        verb.options(described)
    return root


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
        status = int(arguments.run(arguments))
        sys.stdout.flush()
    except VerbatimError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # of `| head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
