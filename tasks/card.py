"""The model card: what a reader must know before using a model, from what was recorded alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.lineage import Commit, Lineage

FEATURES_NAMED = 20
"""How many features of a kind the card names."""


def write(
    name: str,
    *,
    lineage: Lineage,
    commit: Commit,
    manifest: Mapping[str, Any],
    examples: Mapping[str, Any],
    metrics: Mapping[str, Any],
    gate: Mapping[str, Any],
    snapshot_md5: str,
    learner: Mapping[str, Any],
    machine: Mapping[str, str],
) -> str:
    """Give the card as Markdown.

    machine  what `environment.describe` says of the one that records
    """
    sections = {
        "Intended use": _use(examples, manifest),
        "Data": _data(manifest, examples, snapshot_md5),
        "Features": _features(examples),
        "Metrics": _metrics(metrics),
        "Gate": _gate(gate),
        "Lineage": _lineage(lineage, commit),
        "Reproduce": f"{_reproduce(commit)}\n\n{_comes_out(learner, machine)}",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {name}\n\n{body}\n"


def _use(examples: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    columns = examples["columns"]
    return (
        f"Gives the probability of `{columns['target']}` = 1 for one example, identified by "
        f"{_names(columns['keys'])}, from its raw columns; nulls, unknown categories and absent "
        f"columns are allowed. Learned from what was known before {manifest['dataset_version']}: "
        "on later data, or another population, measure before you rely on it."
    )


def _data(manifest: Mapping[str, Any], examples: Mapping[str, Any], snapshot_md5: str) -> str:
    parts = [
        f"| {part} | {count['rows']:,} | {count['positives']:,} |"
        for part, count in examples["parts"].items()
    ]
    origin = (
        f"{manifest['rows']:,} rows of `{manifest['source']}`, version "
        f"{manifest['dataset_version']}, MD5 of the snapshot `{snapshot_md5}`."
    )
    return "\n".join(
        [
            origin,
            "",
            "| part | examples | positives |",
            "|---|---|---|",
            *parts,
        ]
    )


def _features(examples: Mapping[str, Any]) -> str:
    columns = examples["columns"]
    return "\n".join(
        f"- {len(columns[kind])} {kind}: {_names(columns[kind])}"
        for kind in ("numeric", "categorical")
    )


def _metrics(metrics: Mapping[str, Any]) -> str:
    parts = [part for part in ("train", "val", "test") if part in metrics]
    rows = [
        f"| {name} | {' | '.join(_number(metrics[part][name]) for part in parts)} "
        f"| {_interval(metrics.get('test_interval', {}).get(name))} |"
        for name in metrics["test"]
    ]
    heading = f"| metric | {' | '.join(parts)} | test, 95 % interval |"
    return "\n".join([heading, "|---" * (len(parts) + 2) + "|", *rows])


def _gate(gate: Mapping[str, Any]) -> str:
    verdict = "Passed." if gate["passed"] else "**Failed: not for use.**"
    checks = [
        f"- {'passed' if check['passed'] else 'failed'}: {check['why']}" for check in gate["checks"]
    ]
    return "\n".join([verdict, "", *checks])


def _lineage(lineage: Lineage, commit: Commit) -> str:
    state = ", with uncommitted changes" if commit.dirty else ""
    return "\n".join(
        [
            f"- lineage key `{lineage.key}`",
            f"- commit `{commit.sha or 'none'}`{state}",
            *(f"- `{path}` `{md5}`" for path, md5 in lineage.outputs.items()),
        ]
    )


def _reproduce(commit: Commit) -> str:
    checkout = f"git checkout {commit.sha}\n" if commit.sha else ""
    warning = (
        "\n\nThe tree had uncommitted changes: apply them first, or compare the lineage key."
        if commit.dirty
        else ""
    )
    return f"```\n{checkout}dvc repro\n```{warning}"


def _comes_out(learner: Mapping[str, Any], machine: Mapping[str, str]) -> str:
    """Say what must be the same again, and what that takes."""
    if not learner["deterministic"]:
        return (
            "Trained with `deterministic: false`: the weights' bytes will not come out again, nor "
            "the hashes of what is made from them, only scores that are nearly the same."
        )
    if learner["device"] == "cpu":
        return "The hashes above must come out again."
    known = f": {machine['gpu']}, {machine['gpu_driver']}" if machine["gpu"] != "none" else ""
    return (
        f"Trained on a GPU: the hashes above must come out again on the same card and driver{known}"
        ". On others the weights' bytes differ, and scores are nearly the same."
    )


def _names(names: list[str]) -> str:
    named = ", ".join(f"`{name}`" for name in names[:FEATURES_NAMED]) or "none"
    hidden = len(names) - FEATURES_NAMED
    return f"{named} and {hidden} more" if hidden > 0 else named


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _interval(bounds: Mapping[str, float | None] | None) -> str:
    if bounds is None:
        return ""
    return f"{_number(bounds['low'])} to {_number(bounds['high'])}"
