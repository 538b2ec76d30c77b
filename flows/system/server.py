"""Prefect's server, with transactions on SQLite that wait for each other.

Prefect 3.8 begins them deferred: one that has read and goes on to write fails at once, whatever its
timeout, if another has written in between. The server then answers 503, and somebody's click is
lost. Begun at once for writing, the second waits for the first. PostgreSQL needs none of this.

    python -m flows.system.server
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

from prefect.cli import app
from prefect.server.database.configurations import AioSqliteConfiguration

_begin = AioSqliteConfiguration.begin_transaction


def _begin_to_write(
    database: AioSqliteConfiguration,
    session: Any,
    with_for_update: bool = False,  # noqa: ARG001, FBT001, FBT002 - Prefect's signature
) -> AbstractAsyncContextManager[Any]:
    return _begin(database, session, with_for_update=True)


def main() -> None:
    """Do what `prefect server start` does."""
    AioSqliteConfiguration.begin_transaction = _begin_to_write  # type: ignore[method-assign, assignment]
    sys.argv = ["prefect", "server", "start"]
    app()


if __name__ == "__main__":
    main()
