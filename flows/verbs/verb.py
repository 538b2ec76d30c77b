"""A verb of the command line, and what several of them share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

from tasks.errors import StageError

Number = TypeVar("Number", int, float)


def _none(_verb: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Verb:
    """What a verb does, named and explained by its function; its exit status is 0 if all is well.

    options  adds the options that it takes
    """

    run: Callable[[argparse.Namespace], int]
    options: Callable[[argparse.ArgumentParser], None] = _none

    @property
    def name(self) -> str:
        """What is typed."""
        return self.run.__name__


def reach_server() -> None:
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


def above(least: Number) -> Callable[[str], Number]:
    """Give what reads an option: a number of the same type as `least`, above it and finite."""

    def read(text: str) -> Number:
        number = type(least)(text)
        if not least < number < math.inf:
            raise argparse.ArgumentTypeError(f"must be above {least} (got {text})")
        return number

    read.__name__ = "number"  # what argparse calls it in its messages
    return read


def day(text: str) -> date:
    """Read a date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a date such as 1998-07-01 (got {text})"
        ) from None


def ended(state: Any, *, silent: bool = False) -> int:
    """Print what a flow came to; give the exit status.

    silent  the flow has told it, if all is well
    """
    is_well = state.is_completed()
    if not (is_well and silent):
        print(state.message)
    return 0 if is_well else 1


def let_set(verb: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    verb.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="write a parameter into params.yaml first, as `dvc exp run -S` does (repeatable)",
    )
