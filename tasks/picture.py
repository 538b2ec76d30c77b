"""The lineage of a result as a picture: a Mermaid flowchart, which GitHub and many pages draw.

Sources of data, stages with their parameters, outputs with their hashes, the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tasks import inventory
from tasks.lineage import LAST, Lineage, flat, is_data

HASH_DIGITS = 8
PARAMETERS, LONGEST_VALUE = 8, 32
"""How many parameters of a stage are named, and how long their values may be."""

CLASSES = (
    "classDef data fill:#e8f1fb,stroke:#3572b0,color:#111",
    "classDef stage fill:#fff4d6,stroke:#b7860b,color:#111",
    "classDef output fill:#eaf6ea,stroke:#3c8c40,color:#111",
    "classDef model fill:#fbe9e7,stroke:#b3432b,color:#111",
)


def draw(
    lineage: Lineage, manifest: Mapping[str, Any], *, commit: str, model: str, run_name: str
) -> str:
    """Give the flowchart as Mermaid text."""
    nodes, edges = _Nodes(), []
    for stage, cause in lineage.causes.items():
        its = nodes.add(stage, "stage", _stage(stage, cause))
        for path, md5 in cause["deps"].items():
            if is_data(path):
                edges.append((nodes.add(path, "data", _data(path, md5, manifest)), its))
        edges += [(nodes.known[path], its) for path in lineage.reads.get(stage, [])]
        for path in lineage.makes.get(stage, []):
            text = _data(path, lineage.outputs[path], manifest)
            edges.append((its, nodes.add(path, "output", text)))
    last = nodes.add(
        LAST, "stage", [f"<b>{LAST}</b>", *([f"commit {commit[:12]}"] if commit else [])]
    )
    edges += [(nodes.known[path], last) for path in lineage.outputs if path != manifest["source"]]
    edges.append((last, nodes.add(f"model {model}", "model", [f"<b>{_safe(model)}</b>", run_name])))
    arrows = [f"{one} --> {other}" for one, other in edges]
    return "\n".join(["flowchart LR", *_indented([*nodes.lines, *arrows, *CLASSES])]) + "\n"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


SHAPES = {
    "data": ('[("', '")]'),
    "stage": ('["', '"]'),
    "output": ('(["', '"])'),
    "model": ('{{"', '"}}'),
}


class _Nodes:
    """Nodes by what they stand for, each with an id that Mermaid takes."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.lines: list[str] = []

    def add(self, name: str, kind: str, texts: Iterable[str]) -> str:
        if name not in self.known:
            self.known[name] = f"{kind}{len(self.known)}"
            begin, end = SHAPES[kind]
            label = "<br/>".join(texts)
            self.lines.append(f"{self.known[name]}{begin}{label}{end}:::{kind}")
        return self.known[name]


def _stage(name: str, cause: Mapping[str, Any]) -> list[str]:
    """Name a stage, its code by number of files, and its parameters as far as they are short."""
    code = [path for path in cause["deps"] if not is_data(path)]
    values = [pair for branch in cause["params"].items() for pair in flat(*branch)]
    short = [(key, value) for key, value in values if len(str(value)) <= LONGEST_VALUE]
    named = [
        f"{_safe(key.removeprefix(f'{name}.'))}: {_safe(str(value))}"
        for key, value in short[:PARAMETERS]
    ]
    more = len(values) - len(named)
    rest = [f"and {more} more parameters"] if more > 0 else []
    return [f"<b>{_safe(name)}</b>", f"code: {len(code)} paths", *named, *rest]


def _data(path: str, md5: str, manifest: Mapping[str, Any]) -> list[str]:
    """Name a file or folder with its hash; of the lake also how much it is."""
    lines = [_safe(path), f"{inventory.short(md5)[:HASH_DIGITS]}…"]
    if path == manifest["source"]:
        files = len(manifest.get("files", []))
        lines.append(f"{manifest['rows']:,} rows of {files} files")
    return lines


def _safe(text: str) -> str:
    """Spell what means something to Mermaid as entities."""
    for sign, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
        text = text.replace(sign, code)
    return text
