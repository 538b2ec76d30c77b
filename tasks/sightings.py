"""Who ever saw these bytes: the runs, and the model versions made of them, by content.

A local store is asked by SQL. Any other is asked by MLflow's search, a tag at a time, and gives
all there is to know of a run, which takes 10 ms a run; there, runs that were recorded before tags
told what they saw are not found.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tasks import content, files, inventory, lineage, rows, served, store, tracking
from tasks.errors import StageError
from tasks.inventory import Content
from tasks.rows import Found, Row, Rows
from tasks.store import LINEAGE_KEY

MOST_VERSIONS = 10_000
"""Model versions that MLflow is asked for at once."""

HASH = re.compile(r"([0-9a-fA-F]{8,})(-\d+)?(\.dir)?")
"""A hash or its beginning, of 8 digits at least; an ETag may end with the number of its parts."""


@dataclass(frozen=True)
class Wanted:
    """What is looked for: these hashes, or a path by its name alone.

    hashes  first digits of each hash of the same bytes
    inner   of the files in a folder: looked for if nobody saw the folder as it is
    """

    title: str
    hashes: frozenset[str] = frozenset()
    path: str | None = None
    inner: frozenset[str] = frozenset()

    @property
    def needles(self) -> list[str]:
        """The texts, one of which a line that fits must contain."""
        return sorted(self.hashes) if self.path is None else [self.path]

    def fits(self, content: Content) -> bool:
        """Tell whether a run saw it as this."""
        if self.path is not None:
            return content.path == self.path or content.path.startswith(f"{self.path}/")
        return any(known.startswith(each) for known in content.hashes for each in self.hashes)


@dataclass(frozen=True)
class Sighting:
    """A run that saw it.

    recorded  when the run was begun, in milliseconds
    versions  names and numbers of the model versions made of it
    contents  what it saw it as
    """

    run_id: str
    run_name: str
    recorded: int
    versions: list[tuple[str, int]] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)


def wanted(what: str, root: Path) -> Wanted:
    """Make out what is asked for: a file or folder that is there, a hash, or a recorded path."""
    path = root / what
    if path.is_file():
        both = frozenset(inventory.short(content.digest(path, kind)) for kind in ("md5", "sha256"))
        return Wanted(f"the bytes of {what}", both)
    if path.is_dir():
        md5s = content.code(path)
        inner = frozenset(map(inventory.short, md5s.values()))
        its = inventory.short(content.of_listing(md5s))
        return Wanted(f"the files of {what}", frozenset({its}), inner=inner)
    text = what.strip('"')
    if HASH.fullmatch(text):
        return Wanted(f"the hash {text}", frozenset({inventory.short(text.lower())}))
    return by_name(what, root)


def by_name(what: str, root: Path) -> Wanted:
    """Look for a file or folder by its path, whatever its bytes were."""
    return Wanted(f"the path {what}", path=relative(what, root))


def relative(what: str, root: Path) -> str:
    """Spell a path as `dvc.lock` does."""
    if "://" in what:
        return what.rstrip("/")
    path, here = Path(what), root.resolve()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


@dataclass(frozen=True)
class Sightings:
    """Who saw it, the newest run first.

    is_cut    whether more runs may have seen it, as a server was asked for some alone
    unlooked  runs whose tags do not name all that they saw, and whose artifact was not read
    """

    found: list[Sighting]
    is_cut: bool = False
    unlooked: int = 0


def find(sought: Wanted, most: int | None = None) -> Sightings:
    """Find who saw it; of a folder, if nobody did, who saw its files.

    most  runs that are wanted of a server; a local store always gives all

    Raises TemporaryError if the store does not answer.
    """
    found = _find(sought, most)
    if not found.found and sought.inner:
        return _find(Wanted(sought.title, sought.inner), most)
    return found


def _find(sought: Wanted, most: int | None) -> Sightings:
    file, address = store.database(), store.uri()
    if file is not None and not file.exists():
        return Sightings([])
    with suppress(*rows.FAULTS):  # MLflow says what is wrong
        if file is not None:
            with rows.opened(file) as tables:
                return Sightings(_by_rows(tables, sought))
        if address.startswith("http"):
            with store.reachable(), served.opened(address) as server:
                return _by_search(server.search, server.versions, server.text, sought, most)
    with store.reachable():
        client = tracking.connect().MlflowClient()
        versions = partial(_versions, client)
        return _by_search(partial(_search, client), versions, _text, sought, most)


def _by_rows(tables: Rows, sought: Wanted) -> list[Sighting]:
    runs = {row.run_id: row for row in tables.runs()}
    seen: dict[str, list[Content]] = {}
    told = set()
    for run_id, name, text in tables.all(
        "SELECT run_uuid, key, value FROM tags WHERE key GLOB 'content.*'"
    ):
        if name != inventory.BEYOND and not inventory.NUMBERED.fullmatch(name):
            continue  # somebody else's
        if run_id in runs and name == inventory.BEYOND:
            seen[run_id] = list(_kept(runs[run_id], sought))
        elif run_id in runs and any(needle in text for needle in sought.needles):
            seen.setdefault(run_id, []).extend(filter(sought.fits, inventory.parsed(text)))
        told.add(run_id)
    for run_id, _ in tables.all("SELECT run_uuid, value FROM tags WHERE key = ?", LINEAGE_KEY):
        if run_id in runs and run_id not in told:
            seen[run_id] = list(_locked(runs[run_id], sought))
    versions = _grouped(tables.versions())
    return [
        Sighting(run_id, row.name, row.recorded, versions.get(run_id, []), _distinct(seen[run_id]))
        for run_id, row in runs.items()
        if seen.get(run_id)
    ]


def _distinct(found: Iterable[Content]) -> list[Content]:
    return sorted(set(found), key=lambda each: each.path)


def _kept(row: Row, sought: Wanted) -> Iterator[Content]:
    """Look into the artifact of a run that saw more than its tags can name."""
    if row.folder is not None and (row.folder / inventory.ARTIFACT).exists():
        text = (row.folder / inventory.ARTIFACT).read_text("utf-8")
        yield from filter(sought.fits, inventory.parsed(text))


def _locked(row: Row, sought: Wanted) -> Iterator[Content]:
    """Look into `dvc.lock` and the manifest of a run that was recorded without tags of this."""
    if row.folder is None:
        return
    lock, manifest = row.folder / "dvc.lock", row.folder / "ingest/manifest.json"
    if not (lock.exists() and manifest.exists()):
        return
    text = lock.read_text("utf-8") + manifest.read_text("utf-8")
    if sought.path is not None or any(needle in text for needle in sought.needles):
        its = inventory.listed(lineage.read(lock), files.read_json(manifest), None)
        yield from filter(sought.fits, its)


def _by_search(
    search: Callable[..., list[dict[str, Any]]],
    versions: Callable[[list[str]], list[tuple[str, str, int]]],
    text: Callable[[str, str], str],
    sought: Wanted,
    most: int | None,
) -> Sightings:
    """Ask for each text in each tag that some run has: MLflow's search knows no `or`.

    text  gives an artifact of a run: of those that saw more than their tags can name
    """
    found: dict[str, Found] = {}
    number, is_cut = 0, False
    while search(f"tags.`{inventory.TAG}{number}` LIKE '%'", most=1):
        for needle in sought.needles:
            like = needle.replace("'", "_")
            condition = f"tags.`{inventory.TAG}{number}` LIKE '%{like}%'"
            runs = search(condition, most=None if most is None else most + 1)
            is_cut |= most is not None and len(runs) > most
            found |= {run.run_id: run for run in map(served.found, runs[:most])}
        number += 1
    beyond = search(f"tags.`{inventory.BEYOND}` LIKE '%'", most=most)
    found |= {run.run_id: run for run in map(served.found, beyond)}
    seen, unlooked = {}, 0
    for run in found.values():
        its, is_whole = _seen(run, text)
        unlooked += not is_whole
        if contents := _distinct(filter(sought.fits, its)):
            seen[run.run_id] = contents
    newest = sorted(
        (run for run in found.values() if run.run_id in seen),
        key=lambda run: run.recorded,
        reverse=True,
    )
    made = _grouped(versions([run.run_id for run in newest[:most]]))
    sightings = [
        Sighting(run.run_id, run.name, run.recorded, made.get(run.run_id, []), seen[run.run_id])
        for run in newest[:most]
    ]
    is_cut |= most is not None and (len(newest) > most or len(beyond) >= most)
    return Sightings(sightings, is_cut, unlooked)


def _seen(run: Found, text: Callable[[str, str], str]) -> tuple[list[Content], bool]:
    """Give what a run saw, and whether that is all; its artifact tells what its tags do not."""
    if inventory.BEYOND not in run.tags:
        return inventory.joined(run.tags), True
    try:
        return inventory.parsed(text(run.run_id, inventory.ARTIFACT)), True
    except (OSError, StageError):  # of requests, too
        return inventory.joined(run.tags), False


def _text(run_id: str, name: str) -> str:
    with tempfile.TemporaryDirectory() as place:
        tracking.fetch(run_id, [name], Path(place))
        return (Path(place) / name).read_text("utf-8")


def _search(client: Any, condition: str, *, most: int | None) -> list[dict[str, Any]]:
    """Search by MLflow's client, and give what its server would."""
    places = [each.experiment_id for each in client.search_experiments()]
    asked = f"{condition} and attributes.status = 'FINISHED'"
    found, token = [], None
    while True:
        page = client.search_runs(places, asked, max_results=most or served.PAGE, page_token=token)
        found += [_as_served(run) for run in page]
        token = page.token
        if not token or (most is not None and len(found) >= most):
            return found


def _as_served(run: Any) -> dict[str, Any]:
    info = {name: getattr(run.info, name) for name in ("run_id", "run_name", "start_time")}
    tags = [{"key": key, "value": value} for key, value in run.data.tags.items()]
    return {"info": info, "data": {"tags": tags}}


def _versions(client: Any, runs: list[str]) -> list[tuple[str, str, int]]:
    if not runs:
        return []
    its = client.search_model_versions(max_results=MOST_VERSIONS)
    return [(str(each.run_id), each.name, int(each.version)) for each in its]


def _grouped(versions: Iterable[tuple[str, str, int]]) -> dict[str, list[tuple[str, int]]]:
    """Give the versions of each run."""
    found: dict[str, list[tuple[str, int]]] = {}
    for run_id, name, number in sorted(versions):
        found.setdefault(run_id, []).append((name, number))
    return found
