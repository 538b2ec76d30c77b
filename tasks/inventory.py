"""What a run saw, by content: every file that it read or wrote, with its hashes, to be searched.

A run carries it as tags `content.0`, `content.1`, …, a line for each file or folder:

    9ae0f56728186ac1 source sample,ingest,train tasks/params.py
    41b0c2ff18e0a1d5,2d43a6fb2128c292 data ingest data/lake/month=1997-01/purchases.parquet
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import content
from tasks.lineage import Lineage

TAG = "content."
NUMBERED = re.compile(r"content\.\d+")
BEYOND = "content.beyond"
"""Tag of a run that saw more files than its tags name; the artifact `contents.txt` names all."""

ARTIFACT = "contents.txt"
DIGITS = 16
"""How much of a hash is kept: enough that no two of millions of files share it."""

MOST = 4000
"""Lines kept as tags."""

ROLES = ("source", "data", "output")

LONGEST_TAG = 8000
"""What MLflow's tables can hold."""


@dataclass(frozen=True)
class Content:
    """A file or folder that a run saw.

    hashes  the first digits of each that is known: MD5, SHA-256, ETag
    role    `source` if no stage makes it, `data` if it is a file of the lake, or `output`
    stages  that read it; of an output the one that makes it comes first
    """

    path: str
    role: str
    stages: tuple[str, ...]
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{','.join(self.hashes)} {self.role} {','.join(self.stages)} {self.path}"


def parsed(text: str) -> list[Content]:
    """Read lines back; what was not written by us is passed by."""
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            hashes, role, stages, path = line.split(" ", 3)
            if role in ROLES:
                found.append(
                    Content(path, role, tuple(stages.split(",")), tuple(hashes.split(",")))
                )
    return found


def listed(lineage: Lineage, manifest: Mapping[str, Any], root: Path | None) -> list[Content]:
    """List what the stages before `register` read and wrote, in the order of the paths.

    root  below which files inside folders are looked at; None: they are not

    A file inside a folder is listed if all its files together still have the hash of the folder.
    """
    found = {path: Content(path, *what) for path, what in _locked(lineage).items()}
    inner = {} if root is None else _inner(found.values(), root)
    lake = _lake(lineage, manifest)
    for path, entry in lake.items():
        known = inner.pop(path, found.get(path))
        hashes = known.hashes if known else ()
        inner[path] = Content(path, "data", entry.stages, (*hashes, *entry.hashes))
    return [each for _, each in sorted({**found, **inner}.items())]


def _locked(lineage: Lineage) -> dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Give role, stages and hash of each path that `dvc.lock` names."""
    readers: dict[str, list[str]] = {}
    for stage, cause in lineage.causes.items():
        for path in (*cause["deps"], *lineage.reads.get(stage, [])):
            readers.setdefault(path, []).append(stage)
    makers = {path: stage for stage, paths in lineage.makes.items() for path in paths}
    sources = {
        path: ("source", tuple(readers[path]), (short(md5),))
        for path, md5 in lineage.sources.items()
    }
    outputs = {
        path: ("output", (makers[path], *readers.get(path, [])), (short(md5),))
        for path, md5 in lineage.outputs.items()
    }
    return {**sources, **outputs}


def _inner(folders: Iterable[Content], root: Path) -> dict[str, Content]:
    found = {}
    for folder in folders:
        if (root / folder.path).is_dir():
            for name, md5 in inside(root / folder.path, folder.hashes[0]).items():
                path = f"{folder.path}/{name}"
                found[path] = Content(path, folder.role, folder.stages, (short(md5),))
    return found


def _lake(lineage: Lineage, manifest: Mapping[str, Any]) -> dict[str, Content]:
    """Give the files of the lake with what the manifest says of them."""
    source = str(manifest.get("source", ""))
    readers = [stage for stage, cause in lineage.causes.items() if source in cause["deps"]]
    readers += [stage for stage, paths in lineage.reads.items() if source in paths]
    found = {}
    for file in manifest.get("files", []):
        path = address(source, file["path"])
        hashes = tuple(short(file[kind]) for kind in ("sha256", "etag") if kind in file)
        found[path] = Content(path, "data", tuple(readers) or ("ingest",), hashes)
    return found


def address(source: str, name: str) -> str:
    """Give where a file of the manifest lies; the source may be that file itself."""
    return source if Path(source).name == name else f"{source}/{name}"


def inside(folder: Path, expected: str) -> dict[str, str]:
    """Give the MD5 of each file in a folder by its relative path; nothing if it is another folder.

    expected  first digits of the hash that DVC gave the folder
    """
    found = content.code(folder)
    return found if short(content.of_listing(found)) == short(expected) else {}


def short(text: str) -> str:
    """Give the digits of a hash that are kept."""
    return text.removesuffix(".dir")[:DIGITS]


def text(contents: Iterable[Content]) -> str:
    """Write all lines."""
    return "".join(f"{each}\n" for each in contents)


def tags(contents: Iterable[Content]) -> dict[str, str]:
    """Spread the lines over tags."""
    lines = [str(each) for each in contents]
    texts: list[str] = []
    for line in lines[:MOST]:
        if texts and len(texts[-1]) + len(line) < LONGEST_TAG:
            texts[-1] += f"\n{line}"
        else:
            texts.append(line[:LONGEST_TAG])
    found = {f"{TAG}{number}": text for number, text in enumerate(texts)}
    beyond = len(lines) - MOST
    return {**found, BEYOND: str(beyond)} if beyond > 0 else found


def joined(tags: Mapping[str, str]) -> list[Content]:
    """Read what tags of a run name; nothing of a run that was recorded without."""
    texts = [text for name, text in tags.items() if NUMBERED.fullmatch(name)]
    return [each for text in texts for each in parsed(text)]
