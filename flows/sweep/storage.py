"""Where Optuna keeps the trials: SQLite on one machine, PostgreSQL for many."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from flows.sweep.rows import Storage
from flows.sweep.section import URL, Sweep
from tasks.errors import StageError
from tasks.params import NAMED

MADE_BY_ANOTHER = re.compile("already exists|UNIQUE constraint|duplicate key", re.IGNORECASE)
"""What databases say to the second of two processes that make the same tables."""

PAUSES_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)

PATIENCE_SECONDS = 60
"""How long SQLite waits for another process that writes."""


def finish(
    storage: BaseStorage,
    trial: Trial | FrozenTrial,
    state: TrialState,
    *,
    value: float | None = None,
    attrs: Mapping[str, Any],
) -> None:
    """Write attributes of a trial and end it, unless it has ended: others may have lost it."""
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        below_the_cache = storage._backend  # type: ignore[attr-defined]  # noqa: SLF001
        below_the_cache.finish_trial(trial._trial_id, state, value, attrs)  # noqa: SLF001


def connect(url: str) -> BaseStorage:
    """Open a storage, made if there is none; raises StageError if it does not answer."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url.startswith("sqlite:"):
        with suppress(OSError):  # the database will say what is wrong
            Path(url.partition(":///")[2]).parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = _laid_out(url)
    except (
        ImportError,
        TypeError,
        ValueError,
        sqlalchemy.exc.SQLAlchemyError,
        OptunaError,
    ) as error:
        raise _unreachable(url, error) from error
    with reachable(url):
        if url.startswith("sqlite:"):
            sqlalchemy.event.listen(storage.engine, "connect", _tune)
            storage.engine.dispose()
        return optuna.storages.get_storage(storage)


def _laid_out(url: str) -> Storage:
    """Open a storage with its tables, which another process may be making at the same time."""
    for pause in PAUSES_SECONDS:
        try:
            return Storage(url, engine_kwargs=_settings(url))
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not MADE_BY_ANOTHER.search(str(error)):
                raise
            time.sleep(pause)
    return Storage(url, engine_kwargs=_settings(url))


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Raise StageError, without the password, for what a database complains of."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> StageError:
    cause = error.__cause__ or error
    reason = [*str(getattr(cause, "orig", cause)).strip().splitlines(), type(cause).__name__][0]
    secret = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    for part in filter(None, re.split("[:/@?]", secret)):
        reason = reason.replace(part, "***")
    return StageError(
        f"params.yaml: sweep.storage: must be a database that answers (got {shown(url)}: "
        f"{reason})\nnext: start it, or correct sweep.storage or the variable {URL}"
    )


def address(sweep: Sweep) -> str:
    """Give the URL of the storage; the path of a SQLite file is made absolute."""
    url = os.environ.get(URL) or sweep.storage
    kind, _, path = url.partition(":///")
    return f"sqlite:///{Path(path).resolve()}" if kind == "sqlite" else url


def shown(url: str) -> str:
    """Give a URL without what may be secret in it."""
    return NAMED.sub("://***@", url.partition("?")[0])


def _settings(url: str) -> dict[str, Any]:
    patience = (
        {"timeout": PATIENCE_SECONDS} if url.startswith("sqlite:") else {"connect_timeout": 10}
    )
    return {"connect_args": patience, "pool_pre_ping": True}


def _tune(connection: Any, _record: object) -> None:
    """Have SQLite write ahead: readers do not wait, and what is committed outlives a crash."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
