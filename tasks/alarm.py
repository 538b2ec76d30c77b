"""What of the champion's drift was told already: kept as a tag of the registered model.

A threshold that is crossed for a month starts one retrain, not one per night, even if that makes
another champion. What is quiet again is forgotten, so that the next crossing is told again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date

from tasks.monitoring import Finding

TAG = "drift_alarm"
"""Tag of the model: what was told, as JSON: finding -> the day as of which it was told."""

Told = dict[str, str]


def read(text: str | None) -> Told:
    """Read the tag; nothing was told if there is none."""
    return dict(json.loads(text)) if text else {}


def write(told: Told) -> str:
    """Give the tag's text."""
    return json.dumps(told, sort_keys=True)


def news(told: Told, findings: Sequence[Finding]) -> list[Finding]:
    """Give what crossed its bound and was not told."""
    return [each for each in findings if each.crossed and each.name not in told]


def updated(told: Told, findings: Sequence[Finding], as_of: date) -> Told:
    """Give what is told after today: the news too, and no longer what is quiet again.

    A finding that cannot be told today is not quiet: its alarm stays. A look back at a day before
    the newest that was told changes nothing.
    """
    if told and as_of.isoformat() < max(told.values()):
        return told
    quiet = {each.name for each in findings if not each.crossed and each.observed is not None}
    new = {each.name: as_of.isoformat() for each in news(told, findings)}
    return {name: day for name, day in told.items() if name not in quiet} | new
