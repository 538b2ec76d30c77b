"""Hand a stage's lines to the Prefect log, and its progress lines to a progress bar in the UI."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.live import LINE, Log

EVERY_SECONDS = 1.0


class Progress:
    """Log each line of one stage; make a progress bar when the first progress line comes.

    A bar is updated at most once in EVERY_SECONDS, and is full when the stage ends without error.

    also  gets each line too
    """

    def __init__(
        self, stage: str, log: Log, *, also: Callable[[str], None] = lambda _: None
    ) -> None:
        self._stage, self._log, self._also = stage, log, also
        self._bar: UUID | None = None
        self._updated = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None and error is None:
            update_progress_artifact(self._bar, progress=100.0)

    def line(self, text: str) -> None:
        """Take one line of the stage's output."""
        self._log.info("%s", text)
        self._also(text)
        if (found := LINE.match(text)) is None:
            return
        done, total, scores = int(found[1]), int(found[2]), found[3]
        now = time.monotonic()
        if now - self._updated < EVERY_SECONDS:
            return
        self._updated = now
        self._show(100.0 * done / max(total, 1), f"{self._stage}: {done} of {total}, {scores}")

    def _show(self, percent: float, description: str) -> None:
        if self._bar is None:
            bar = create_progress_artifact(percent, key=self._stage, description=description)
            self._bar = cast("UUID", bar)  # a coroutine only where the caller is one
        else:
            update_progress_artifact(self._bar, progress=percent, description=description)
