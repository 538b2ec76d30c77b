"""Decide whether a model is good enough to be registered, and say why in sentences.

The bounds are a part of the section `evaluate`. Numbers are compared as they are written, rounded.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from tasks import files
from tasks.params import Section

NAMED = 10
"""How many drifting features a sentence names."""


class Bounds(Section):
    """What a model must reach on the test part."""

    min_accuracy: float = Field(ge=0, le=1, description="least accuracy, a share of rows")
    min_auc: float = Field(ge=0, le=1, description="least ROC AUC")
    min_gain: float = Field(
        ge=-1, le=1, description="least gain in ROC AUC over the baseline's, in AUC units"
    )
    max_drift: float = Field(
        gt=0, description="largest population stability index, of scores and of features"
    )
    drift_ignored: tuple[str, ...] = Field(
        description="features that drift by nature, as names or shell patterns such as `age_*`; "
        "their drift is reported, not judged"
    )


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at: test metrics, the gain over one baseline, and drift by PSI.

    baseline       how to call the baseline in a sentence
    gain           the result of `metrics.paired_gain` against it
    score_drift    between the baseline's and the model's scores; None if it is not a past model
    feature_drift  of each feature, between the training and the test part
    """

    accuracy: float
    roc_auc: float
    baseline: str
    gain: dict[str, float]
    score_drift: float | None
    feature_drift: dict[str, float]


@dataclass(frozen=True)
class Check:
    """One bound, what was observed (None: undefined), and a sentence that tells both."""

    name: str
    bound: float
    observed: float | None
    passed: bool
    why: str


def judge(bounds: Bounds, evidence: Evidence) -> dict[str, Any]:
    """Give the content of `gate.json`: passed or not, and every check."""
    checks = [
        _least("min_accuracy", "accuracy on test", evidence.accuracy, bounds.min_accuracy),
        _least("min_auc", "ROC AUC on test", evidence.roc_auc, bounds.min_auc),
        _beats_baseline(bounds.min_gain, evidence),
        _features_hold_still(bounds, evidence.feature_drift),
    ]
    if evidence.score_drift is not None:
        checks.append(_scores_hold_still(bounds.max_drift, evidence))
    return {
        "passed": all(check.passed for check in checks),
        "checks": [asdict(check) for check in checks],
    }


def _least(name: str, what: str, observed: float, bound: float) -> Check:
    if math.isnan(observed):
        return Check(name, bound, None, False, f"{what} is undefined: test has one class only")
    observed = files.rounded(observed)
    passed = observed >= bound
    verdict = "reaches" if passed else "is below"
    return Check(name, bound, observed, passed, f"{what} {observed:.4f} {verdict} {bound:g}")


def _beats_baseline(bound: float, evidence: Evidence) -> Check:
    what = f"gain in ROC AUC over {evidence.baseline}"
    check = _least("min_gain", what, evidence.gain["value"], bound)
    if check.observed is None:
        return check
    low, high = evidence.gain["low"], evidence.gain["high"]
    probability = evidence.gain["probability_better"]
    certainty = (
        f" (95 % interval {low:.4f} to {high:.4f}, better in {probability:.1%} of resamples)"
    )
    return Check(check.name, bound, check.observed, check.passed, check.why + certainty)


def _features_hold_still(bounds: Bounds, drift: dict[str, float]) -> Check:
    name, bound = "max_drift_features", bounds.max_drift
    judged = {key: psi for key, psi in drift.items() if not _ignored(key, bounds)}
    counted = f"of {len(judged)} features judged ({len(drift) - len(judged)} are ignored)"
    if not judged:
        return Check(name, bound, None, True, f"{counted}, none drifts")
    ranked = sorted(judged, key=lambda key: (-files.rounded(judged[key]), key))
    observed = files.rounded(judged[ranked[0]])
    over = [f"{key} {judged[key]:.4f}" for key in ranked if files.rounded(judged[key]) > bound]
    if not over:
        most = f"the most is {ranked[0]} with {observed:.4f}"
        return Check(name, bound, observed, True, f"{counted}, none drifts over {bound:g}; {most}")
    more = f" and {len(over) - NAMED} more" if len(over) > NAMED else ""
    named = ", ".join(over[:NAMED]) + more
    why = f"{counted}, {len(over)} drift over {bound:g} from training to test: {named}"
    return Check(name, bound, observed, False, why)


def _ignored(feature: str, bounds: Bounds) -> bool:
    return any(fnmatchcase(feature, pattern) for pattern in bounds.drift_ignored)


def _scores_hold_still(bound: float, evidence: Evidence) -> Check:
    observed = files.rounded(evidence.score_drift)
    passed = observed <= bound
    verdict = "is within" if passed else "exceeds"
    why = f"drift of the scores from {evidence.baseline}'s, {observed:.4f}, {verdict} {bound:g}"
    return Check("max_drift_scores", bound, observed, passed, why)
