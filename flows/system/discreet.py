"""What Prefect's server prints, without the addresses of webhooks, which are secrets.

Where a webhook answers with an error, Prefect logs HTTPX's words for it, and they hold the whole
address. PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS has the server print by this class.
"""

from __future__ import annotations

import logging
import re

from prefect.logging.handlers import PrefectConsoleHandler

ASKED = re.compile(r"(for url|Redirect location:) '(https?://[^/?#']*)[^']*'")
"""How HTTPX names what it asked: the host may be read, the rest may be a secret."""


class Console(PrefectConsoleHandler):
    """Prefect's own, but that of an address that was asked it shows the host alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the text of a record."""
        return ASKED.sub(r"\1 '\2/…'", super().format(record))
