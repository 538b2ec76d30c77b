"""Who saw some bytes, asked of a store that a real `register` wrote, by tables and by a server."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import free_ports, wait_for
from left_behind import ASKED, MLFLOW_WARNS

from flows import lineage_report
from tasks import claim, comparison, content, lineage, sightings, store
from tasks.sightings import Sighting, Sightings, Wanted

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]


def ask(what: str) -> list[Sighting]:
    return sightings.find(sightings.wanted(what, Path())).found


def change(statement: str, *values: str) -> None:
    with closing(sqlite3.connect("mlflow.db")) as tables, tables:
        tables.execute(statement, values)


def test_bytes_are_found_by_hash_by_name_and_by_a_file_that_has_them(here: Path) -> None:
    its = lineage.read()
    (seen,) = ask(its.outputs["data/train"])
    assert seen.run_name == f"baseline-trees-{its.short}"
    assert seen.versions == [(MODEL, 1)]
    (content,) = seen.contents
    assert (content.path, content.role, content.stages) == ("data/train", "output", ("train",))
    assert ask(its.outputs["data/train"][:8]) == [seen] == ask(its.outputs["data/train"].upper())
    weights = here / "copy.ubj"
    weights.write_bytes((here / "data/train/model.ubj").read_bytes())
    assert ask("copy.ubj") == [seen], "the hand-made output is that one file"
    assert ask("f" * 32) == []
    assert ask("nowhere.csv") == []


def test_a_folder_is_found_as_it_is_or_by_its_files(here: Path) -> None:
    folder = here / "lake"
    folder.mkdir()
    (folder / "1.csv").write_text("1")
    md5s = content.code(folder)
    wanted = sightings.wanted("lake", here)
    assert wanted.hashes == {content.of_listing(md5s)[:16]}
    assert wanted.inner == {md5s["1.csv"][:16]}


def test_runs_without_tags_of_what_they_saw_are_found_by_their_lock(here: Path) -> None:
    seen = ask(lineage.read().outputs["data/train"])
    change("DELETE FROM tags WHERE key GLOB 'content.*'")
    assert ask(lineage.read().outputs["data/train"]) == seen
    change("INSERT INTO tags (key, value, run_uuid) VALUES ('content.by', 'me', ?)", seen[0].run_id)
    assert ask(lineage.read().outputs["data/train"]) == seen, "a tag of somebody else"


def test_runs_that_saw_more_than_tags_can_hold_are_found_by_their_artifact(here: Path) -> None:
    seen = ask(lineage.read().outputs["data/train"])
    change("DELETE FROM tags WHERE key GLOB 'content.*'")
    change(
        "INSERT INTO tags (key, value, run_uuid) VALUES ('content.beyond', '1', ?)", seen[0].run_id
    )
    assert ask(lineage.read().outputs["data/train"]) == seen


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the store."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{here}/mlflow.db", "--serve-artifacts"],
        cwd=here,
        env={**os.environ, **store.QUIET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(f"{address}/health", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_tables_server_and_mlflow_tell_the_same(
    here: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.follow_move()
    its = lineage.read().outputs["data/train"]
    named = f"{MODEL}/1", f"{MODEL}@staging", f"baseline-trees-{lineage.read().short}"
    seen, claims = ask(its), [claim.find(each, MODEL) for each in named]
    assert claims[0] == claims[1] == claims[2]
    assert claims[0].version is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert ask(its) == seen
    assert [claim.find(each, MODEL) for each in named] == claims
    assert claim.of_version(MODEL, 1) == claims[0]
    assert comparison.of(claims[0], claim.of_alias(MODEL, "staging")) == {}
    wanted = Wanted("it", frozenset({its[:16]}))
    assert sightings.find(wanted, most=1) == Sightings(seen)
    change("INSERT INTO tags (key, value, run_uuid) VALUES ('content.beyond', '1', ?)",
           seen[0].run_id)  # fmt: skip
    assert sightings.find(wanted).found == seen, "by the artifact"
    monkeypatch.setattr(sightings.served, "opened", fails)
    assert ask(its) == seen, "by MLflow's own client"


def fails(_address: str):
    raise LookupError("as if it answered otherwise")


def run(number: int, **tags: str) -> dict[str, Any]:
    """A run as a server gives it."""
    info = {"run_id": f"{number}", "run_name": f"run {number}", "start_time": number}
    return {"info": info, "data": {"tags": [{"key": k, "value": v} for k, v in tags.items()]}}


def searched(runs: list[dict[str, Any]], most: int | None, text: str = "") -> Sightings:
    """Search runs of a server, of which one that saw more than its tags name has this artifact."""

    def search(condition: str, *, most: int | None) -> list[dict[str, Any]]:
        name = condition.split("`")[1]
        return [each for each in runs if name in {tag["key"] for tag in each["data"]["tags"]}][
            :most
        ]

    def read(_run_id: str, _name: str) -> str:
        if not text:
            raise FileNotFoundError
        return text

    sought = Wanted("it", frozenset({"a" * 16}))
    return sightings._by_search(search, lambda _: [], read, sought, most)


def test_of_a_server_it_is_told_what_was_not_looked_at():
    line = f"{'a' * 16} data ingest 1.csv"
    runs = [run(number, **{"content.0": line}) for number in (3, 2, 1)]
    answer = searched(runs, 2)
    assert ([each.run_id for each in answer.found], answer.is_cut) == (["3", "2"], True)
    assert not searched(runs, 3).is_cut
    assert not searched(runs, None).is_cut
    assert lineage_report.beyond(answer, 2)[0].endswith("next: the same with --all")
    beyond = [run(4, **{"content.0": "", "content.beyond": "1"})]
    assert [each.run_id for each in searched(beyond, None, line).found] == ["4"]
    lost = searched(beyond, None)
    assert (lost.found, lost.unlooked) == ([], 1)
    assert "contents.txt is gone" in lineage_report.beyond(lost, 2)[0]
