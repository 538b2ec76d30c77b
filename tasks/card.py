"""The model card: what a reader must know before using a model, from what was recorded alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.lineage import Commit, Lineage

FEATURES_NAMED = 20
"""How many features of a kind the card names."""

FILES_NAMED = 24
"""How many files of the lake the card names, the newest by name."""

SLICES_NAMED = 20
SLICE_METRICS = ("roc_auc", "pr_auc_negative", "accuracy", "log_loss", "calibration_error")
"""What the card tells of each slice, if it was measured."""

MORE = "More: the artifact `model_card.md` of the run."


def write(
    name: str,
    *,
    proven_as: str,
    picture: str,
    slices: Sequence[Mapping[str, Any]],
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
    """Give the card as Markdown, what a reader needs first at the top.

    proven_as  what `prove` is asked for
    picture    of the lineage, as Mermaid
    machine    what `environment.describe` says of the one that records
    """
    sections = {
        "Intended use": _use(examples, manifest),
        "Gate": _gate(gate),
        "Metrics": _metrics(metrics),
        "Slices": _slices(slices),
        "Data": _data(manifest, examples, snapshot_md5),
        "Lineage": _lineage(lineage, commit),
        "Prove": f"{_prove(proven_as, commit)}\n\n{_comes_out(learner, machine)}",
        "Features": _features(examples),
        "Data files": _files(manifest),
        "Picture": f"```mermaid\n{picture}```",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"# {name}\n\n{body}\n"


def shortened(card: str, longest: int) -> str:
    """Keep the sections that fit, whole and in their order, and say where the others are."""
    head, *sections = card.split("\n\n## ")
    kept, room = head, longest - len(f"\n\n{MORE}\n")
    for section in sections:
        added = f"\n\n## {section.rstrip()}"
        if len(kept) + len(added) > room:
            return f"{kept}\n\n{MORE}\n"
        kept += added
    return f"{kept}\n"


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


def _slices(slices: Sequence[Mapping[str, Any]]) -> str:
    """Tell how good the model is on each slice of the test part, of many the largest."""
    if not slices:
        return ""
    column = next(iter(slices[0]))
    known = [name for name in SLICE_METRICS if name in slices[0]]
    largest = sorted(slices, key=lambda each: -each["rows"])[:SLICES_NAMED]
    rows = [
        f"| {each[column]} | {each['rows']:,} "
        f"| {' | '.join(_number(each[name]) for name in known)} |"
        for each in slices
        if each in largest
    ]
    heading = f"| {column} | rows | {' | '.join(known)} |"
    return "\n".join([heading, "|---" * (2 + len(known)) + "|", *rows])


def _files(manifest: Mapping[str, Any]) -> str:
    """Name the newest files of the lake with their hashes."""
    files = manifest.get("files", [])
    rows = [
        f"| `{file['path']}` | {file['rows']:,} | `{file.get('etag') or file['sha256']}` |"
        for file in files[-FILES_NAMED:]
    ]
    hidden = len(files) - len(rows)
    before = (
        f"\n\n{hidden:,} files before these are in `ingest/manifest.json`." if hidden > 0 else ""
    )
    heading = "| file | rows | ETag or SHA-256 |\n|---|---|---|"
    return "\n".join([heading, *rows]) + before if files else ""


def _prove(proven_as: str, commit: Commit) -> str:
    checkout = f"git checkout {commit.sha}\n" if commit.sha else ""
    warning = (
        "\n\nThe tree had uncommitted changes: apply them first, or compare the lineage key."
        if commit.dirty
        else ""
    )
    return (
        f"`python -m flows prove {proven_as}` rebuilds it from the commit and compares every byte; "
        f"or by hand:\n\n```\n{checkout}dvc repro\n```{warning}"
    )


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
