"""Judge what was observed of the champion's world: findings, each a bound and a sentence.

Numbers are compared as they are written, rounded, as the gate does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median

from pydantic import Field

from tasks import files
from tasks.observation import Features, Month, Observation
from tasks.outcomes import Live
from tasks.params import Section


class Monitor(Section):
    """How far the world may move from what the champion has learned."""

    max_drift: float = Field(
        gt=0,
        description="largest population stability index of a feature, to today from the training "
        "part or from the test part, whichever is less; and of a column of the newest month",
    )
    drift_ignored: tuple[str, ...] | None = Field(
        description="features that drift by nature, as names or shell patterns such as `age_*`; "
        "null: those that the champion's gate ignored"
    )
    max_score_drift: float = Field(
        gt=0, description="largest population stability index of the scores, from the test part"
    )
    max_null_rise: float = Field(
        ge=0, le=1, description="most that the share of nulls of a feature or column may rise"
    )
    min_volume: float = Field(
        ge=0, le=1, description="least events, and entities, of the newest month over the median's"
    )
    max_volume: float = Field(
        ge=1, description="most events, and entities, of the newest month over the median's"
    )
    max_auc_drop: float = Field(
        ge=0,
        le=1,
        description="how far below the promised ROC AUC the whole 95 % interval of the live one "
        "may lie",
    )
    max_calibration_error: float = Field(
        ge=0, le=1, description="calibration error that the whole 95 % interval may not exceed"
    )
    resamples: int = Field(ge=100, le=100_000, description="bootstrap resamples of the outcomes")


@dataclass(frozen=True)
class Finding:
    """One bound, what was observed (None: it cannot be told), and a sentence that tells both."""

    name: str
    bound: float
    observed: float | None
    crossed: bool
    why: str


def ignored(monitor: Monitor, champions: Sequence[str]) -> tuple[str, ...]:
    """Give the patterns of features that are not judged; by default the champion's."""
    return tuple(champions) if monitor.drift_ignored is None else monitor.drift_ignored


def is_ignored(feature: str, patterns: Sequence[str]) -> bool:
    """Tell whether a feature is not judged."""
    return any(fnmatchcase(feature, pattern) for pattern in patterns)


def judge(monitor: Monitor, seen: Observation, patterns: Sequence[str]) -> list[Finding]:
    """Give every finding, those that crossed their bound first."""
    found = [
        *_rows(monitor, seen),
        *_volumes(monitor, seen.months),
        *(_features(monitor, seen.features, patterns) if seen.features else ()),
    ]
    return sorted(found, key=lambda finding: not finding.crossed)


def _rows(monitor: Monitor, seen: Observation) -> Iterator[Finding]:
    fails = seen.refusal is not None
    what = f"does not take the rows of today: {seen.refusal}" if fails else "takes today's rows"
    yield Finding("features", 0, float(fails), fails, f"the champion's recipe {what}")
    for name, psi in seen.drift.items():
        what = f"drift of {name} from the rows that the champion knew to the newest month"
        yield _most(f"rows.{name}", what, psi, monitor.max_drift, "PSI ")
    yield from _nulls(monitor, "rows", seen.nulls)


def _features(monitor: Monitor, features: Features, patterns: Sequence[str]) -> Iterator[Finding]:
    for name, each in features.drift.items():
        if not is_ignored(name, patterns):
            what = f"drift of {name} from what the champion was trained and evaluated on"
            yield _most(f"drift.{name}", what, each.further, monitor.max_drift, "PSI ")
    what = "drift of the scores from those of the champion's test part"
    yield _most("score_drift", what, features.scores.drift, monitor.max_score_drift, "PSI ")
    yield from _nulls(monitor, "features", features.nulls)
    if features.live is not None:
        yield from _qualities(monitor, features.live)


def _most(name: str, what: str, observed: float, bound: float, unit: str) -> Finding:
    if math.isnan(observed):
        return Finding(name, bound, None, False, f"{what}: it cannot be told")
    observed = files.rounded(observed)
    crossed = observed > bound
    verdict = "over" if crossed else "within"
    return Finding(
        name, bound, observed, crossed, f"{what}: {unit}{observed:.4f}, {verdict} {bound:g}"
    )


def _nulls(
    monitor: Monitor, kind: str, shares: Mapping[str, tuple[float, float]]
) -> Iterator[Finding]:
    for name, (then, now) in shares.items():
        what = f"nulls of {name} in the {kind} went from {then:.1%} to {now:.1%}"
        yield _most(f"nulls.{name}", what, now - then, monitor.max_null_rise, "a rise of ")


def _volumes(monitor: Monitor, months: Sequence[Month]) -> Iterator[Finding]:
    known = [month for month in months if month.known]
    if not known:
        return
    newest = months[-1]
    typical = median(month.events for month in known)
    yield _volume(monitor, "events", newest.first, newest.events, typical)
    entities = [month.entities for month in known if month.entities is not None]
    if newest.entities is not None and entities:
        yield _volume(monitor, "entities", newest.first, newest.entities, median(entities))


def _volume(monitor: Monitor, what: str, first: object, count: int, typical: float) -> Finding:
    low, high = monitor.min_volume, monitor.max_volume
    told = f"{count:,} {what} in the month from {first}"
    if not typical:
        return Finding(f"volume.{what}", low, None, False, f"{told}; the median month had none")
    ratio = files.rounded(count / typical)
    crossed = not low <= ratio <= high
    why = (
        f"{told}, {ratio:.2f} of the median month's {typical:,.0f}, "
        f"{'outside' if crossed else 'within'} {low:g} to {high:g}"
    )
    return Finding(f"volume.{what}", high if ratio > 1 else low, ratio, crossed, why)


def _qualities(monitor: Monitor, live: Live) -> Iterator[Finding]:
    for name, words in (("roc_auc", "ROC AUC"), ("calibration_error", "calibration error")):
        what = f"live {words} of {live.rows:,} {live.what}, whose outcome is known now"
        promised = live.promise[name]
        if promised is None:
            yield Finding(f"live.{name}", 0, None, False, f"{what}: evaluation promised nothing")
        elif name == "roc_auc":
            bound = promised - monitor.max_auc_drop
            yield _quality(name, what, live, bound, at_least=True)
        else:
            yield _quality(name, what, live, monitor.max_calibration_error, at_least=False)


def _quality(name: str, what: str, live: Live, bound: float, *, at_least: bool) -> Finding:
    """Hold the end of an interval that is nearer to good against a bound."""
    value, (low, high) = live.value[name], live.interval[name]
    bound = files.rounded(bound)
    if math.isnan(value) or math.isnan(low):
        why = f"{what}, cannot be told: they have one class only"
        return Finding(f"live.{name}", bound, None, False, why)
    crossed = high < bound if at_least else low > bound
    side = "below" if at_least else "over"
    why = (
        f"{what}: {value:.4f} (95 % {low:.4f} to {high:.4f}), "
        f"{'all' if crossed else 'not all'} {side} {bound:.4f}; "
        f"evaluation promised {live.promise[name]:.4f}"
    )
    return Finding(f"live.{name}", bound, files.rounded(value), crossed, why)
