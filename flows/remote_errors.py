"""What a remote raises, told: who must do something, what, and none of its secrets."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tasks.errors import StageError

TRANSFERS = "dvc_data.hashfile.transfer"
"""The logger to which DVC gives the reasons why files did not arrive."""
SECRET = re.compile(r"(?i)key|secret|token|password|credential|connection_string")
SHORTEST_SECRET = 6
"""Of fewer letters, a setting is a word that any message may use."""
WAIT = "try again; if it stays away, see where it is by `dvc remote list`, and start it"
MEND = (
    "see where it is by `dvc remote list`, make its bucket, or check the credentials in the "
    "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
)
REPLACE = "remove these files there, and run again: what they held is made anew"


class RemoteError(StageError):
    """The remote could not be read or written.

    may_pass  whether it may answer when asked again, without anybody mending anything
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class DamageError(Exception):
    """Files of the remote are not what their names say."""


def advice(error: Exception) -> tuple[bool, str]:
    """Tell what a person must mend from what may be back, and say what to do."""
    from botocore import exceptions as botocore  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException

    if isinstance(error, DamageError):
        return False, REPLACE
    refused = (
        *(PermissionError, FileNotFoundError, ValueError, ImportError, DvcException),
        *(botocore.NoCredentialsError, botocore.PartialCredentialsError),
        *(botocore.ProfileNotFound, botocore.ParamValidationError),
    )
    return (False, MEND) if isinstance(error, refused) else (True, WAIT)


def discreet(message: str, settings: Mapping[str, Any]) -> str:
    """Leave out what a remote's settings, the environment and addresses hold of secrets."""
    settings = {**settings, **os.environ}
    secrets = {str(value) for name, value in settings.items() if SECRET.search(name)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            message = message.replace(secret, "***")
    return re.sub(r"(?<=://)[^/\s@]+@", "***@", message)


@contextmanager
def reasons() -> Iterator[list[BaseException]]:
    """Collect the errors that DVC would print with a traceback and otherwise forget."""
    found: list[BaseException] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                found.append(record.exc_info[1])

    logger, handler = logging.getLogger(TRANSFERS), Collect(logging.ERROR)
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
