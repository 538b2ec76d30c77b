"""Lineage in the terminal: what a model descends from, who saw some bytes, why two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.tree import Tree

from tasks.comparison import Differences
from tasks.sightings import Sighting, Sightings, Wanted

HASH_DIGITS = 12
ABSENT = "none"

GROUPS = {
    "parameters": "parameters",
    "data": "data",
    "code": "code",
    "commands": "commands of stages",
    "environment": "environment",
    "outputs": "outputs, though nothing that determines them differs",
}


WIDE = 10_000
"""Columns: lines are as long as they are."""


def show(what: Tree) -> None:
    """Print a tree."""
    Console(markup=False, highlight=False, width=WIDE).print(what, no_wrap=True, crop=False)


def tree(descent: Mapping[str, Any]) -> Tree:
    """Draw what a model descends from."""
    root = Tree(_title(descent))
    run, commit = descent["run"], descent["commit"]
    if run:
        when = moment(run["recorded_ms"])
        root.add(f"run {run['name']} ({run['id']}), recorded {when}")
    state = ", with uncommitted changes" if commit["dirty"] else ""
    author = f", {commit['author']}" if commit["author"] else ""
    root.add(f"commit {commit['sha'] or ABSENT}{state}{author}")
    root.add(f"lineage key {descent['lineage_key']}")
    if descent["environment"]:
        _add_environment(root, descent["environment"])
    if descent["data"]:
        _add_data(root, descent["data"])
    stages = root.add("stages")
    for stage in descent["stages"]:
        _add_stage(stages, stage)
    return root


def _title(descent: Mapping[str, Any]) -> str:
    model, run = descent["model"], descent["run"]
    if model:
        gate = {True: "passed the gate", False: "failed the gate", None: "gate unknown"}
        return f"{model['name']} version {model['version']}, {gate[model['passed_gate']]}"
    return f"{run['name']}, no version" if run else "no run is recorded of this content"


def _add_environment(root: Tree, environment: Mapping[str, str]) -> None:
    branch = root.add("environment")
    for name, text in environment.items():
        branch.add(f"{name}: {text}")


def _add_data(root: Tree, data: Mapping[str, Any]) -> None:
    events = (
        f", events {data['first_event']} to {data['last_event']}" if data["first_event"] else ""
    )
    branch = root.add(
        f"data {data['source']}, version {data['dataset_version']}: {data['rows']:,} rows of "
        f"{len(data['files'])} files{events}"
    )
    for file in data["files"]:
        etag = f", ETag {file['etag']}" if "etag" in file else ""
        branch.add(f"{file['path']}  {file['rows']:,} rows, sha256 {file['sha256']}{etag}")


def _add_stage(stages: Tree, stage: Mapping[str, Any]) -> None:
    branch = stages.add(stage["stage"])
    if stage["parameters"]:
        parameters = branch.add("parameters")
        for name, value in stage["parameters"].items():
            parameters.add(f"{name}: {value}")
    sources = branch.add("sources")
    for file in stage["sources"]:
        _add_file(sources, file)
    if stage["reads"]:
        reads = branch.add("reads")
        for path, md5 in stage["reads"].items():
            reads.add(f"{path}  {md5}")
    outputs = branch.add("makes")
    for file in stage["outputs"]:
        _add_file(outputs, file)


def _add_file(branch: Tree, file: Mapping[str, Any]) -> None:
    node = branch.add(f"{file['path']}  {file['hash']}")
    for path, md5 in file.get("files", {}).items():
        node.add(f"{path.removeprefix(file['path'] + '/')}  {md5}…")


def moment(milliseconds: int) -> str:
    """Give a time in UTC, to the minute."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def sightings(title: str, found: Sequence[Sighting]) -> list[str]:
    """List who saw it, as what."""
    versions = len({each for seen in found for each in seen.versions})
    runs, models = _count(len(found), "run"), _count(versions, "model version")
    rows = [("run", "versions", "recorded", "by stage", "as")]
    for seen in found:
        named = ", ".join(f"{name}/{number}" for name, number in seen.versions) or ABSENT
        for content in seen.contents:
            what = f"{ROLES[content.role]} {content.path}"
            when = moment(seen.recorded)
            rows.append((seen.run_name, named, when, ", ".join(content.stages), what))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [f"{title}: seen by {runs}, {models}", "", *(_line(row, widths) for row in rows)]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip()


ROLES = {"source": "source", "data": "data file", "output": "output"}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def unseen(wanted: Wanted, namesakes: Sequence[Sighting]) -> list[str]:
    """Say that nobody saw it; and who saw a file of that name, with other bytes."""
    known = f" ({', '.join(f'{each}…' for each in wanted.needles)})" if wanted.hashes else ""
    lines = [f"{wanted.title}{known}: no recorded run ever saw this"]
    if namesakes:
        last = namesakes[0]
        lines.append(
            f"a file of this name, with other bytes, was seen by {_count(len(namesakes), 'run')}, "
            f"the last of them {last.run_name}, {moment(last.recorded)}"
        )
    return lines


def beyond(answer: Sightings, newest: int) -> list[str]:
    """Say what was not looked at: older runs of a server, and runs that saw too much to tell."""
    lines = []
    if answer.is_cut:
        lines.append(f"of a server the newest {newest} runs are asked; next: the same with --all")
    if answer.unlooked:
        what = _count(answer.unlooked, "run")
        lines.append(f"not looked at: what {what} saw beyond their tags; contents.txt is gone")
    return lines


def explain(names: tuple[str, str], found: Differences) -> list[str]:
    """Say why two differ, a line for each thing that does."""
    if not found:
        return [f"{names[0]} and {names[1]} are the same content"]
    lines = [f"{names[0]} → {names[1]}"]
    for group, pairs in found.items():
        lines += ["", GROUPS[group]]
        lines += [
            f"  {name}: {_shown(one)} → {_shown(other)}" for name, (one, other) in pairs.items()
        ]
    return lines


def _shown(value: Any) -> str:
    """Shorten hashes; say `none` where there is nothing."""
    if value is None:
        return ABSENT
    text = str(value)
    is_hash = len(text) > HASH_DIGITS and set(text.removesuffix(".dir")) <= set("0123456789abcdef")
    return f"{text[:HASH_DIGITS]}…" if is_hash else text
