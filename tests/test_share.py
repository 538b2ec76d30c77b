"""Sharing through a remote, on a real S3 store: what comes, what goes, and what breaks."""

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from conftest import free_ports, serving_s3

from flows.graph import Graph, Outcome
from flows.remote_errors import RemoteError, discreet
from tasks.errors import StageError

PIPELINE = """\
stages:
  draw:
    cmd: python draw.py ${size} out/draw
    deps: [draw.py, given.txt]
    params: [size]
    outs: [out/draw]
  count:
    cmd: python count.py out/draw out/count
    deps: [count.py, out/draw]
    outs: [out/count]
"""
DRAW = """\
import sys, pathlib, random
out = pathlib.Path(sys.argv[2]); out.mkdir(parents=True)
(out / "text").write_text(pathlib.Path("given.txt").read_text() * int(sys.argv[1]))
(out / "noise").write_bytes(random.Random(1).randbytes(3_000_000))
"""
COUNT = """\
import sys, pathlib
out = pathlib.Path(sys.argv[2]); out.mkdir(parents=True)
(out / "length").write_text(str(len((pathlib.Path(sys.argv[1]) / "text").read_bytes())))
"""
CONFIG = """\
[core]
    analytics = false
    remote = store
['remote "store"']
    url = s3://{bucket}/dvc
"""
ONE_FILE = DRAW.replace('"noise"', '"text"')
TWO_FILES = DRAW + "(out / 'more').write_bytes(random.Random(2).randbytes(3_000_000))\n"


@pytest.fixture
def store(s3, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """The S3 store, as this process and what it starts find it."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)


@pytest.fixture
def bucket(store) -> str:
    name = f"shared-{uuid4().hex[:8]}"
    store.mkdir(name)
    return name


@pytest.fixture
def here(tmp_path: Path, bucket: str, environment, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the bucket for its remote, in which nothing has run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", environment["PATH"])
    files = {"dvc.yaml": PIPELINE, "draw.py": DRAW, "count.py": COUNT, "given.txt": "abc"}
    for name, text in {**files, "params.yaml": "size: 2\n", ".gitignore": ".verbatim\n"}.items():
        (folder / name).write_text(text)
    sh("git", "init", "--quiet")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text(CONFIG.format(bucket=bucket))
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    commit()
    return folder


def sh(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def commit() -> None:
    sh("git", "add", "-A")
    sh(
        "git",
        "-c",
        "user.name=Tests",
        "-c",
        "user.email=t@localhost",
        "commit",
        "--allow-empty",
        "-qm",
        "it",
    )


@pytest.fixture
def elsewhere(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Go to a fresh clone with an empty cache."""

    def go() -> Path:
        clone = tmp_path / f"clone-{uuid4().hex[:8]}"
        sh("git", "clone", "--quiet", str(here), str(clone))
        monkeypatch.chdir(clone)
        return clone

    return go


def walk(**options) -> list[Outcome]:
    graph = Graph()
    return [graph.bring_up_to_date(step, print, **options).outcome for step in graph.steps]


def objects(root: str, names: list[str]) -> None:
    """See that each file of a store of objects is what its name says."""
    read = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    for name in names:
        data = read.cat_file(name) if root.startswith("s3") else Path(name).read_bytes()
        prefix, rest = name.split("/")[-2:]
        assert hashlib.md5(data, usedforsecurity=False).hexdigest() == (prefix + rest).removesuffix(
            ".dir"
        )


def cached(folder: Path) -> list[str]:
    found = [path for path in (folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    return [str(path) for path in found]


def test_what_ran_here_is_fetched_elsewhere(here, elsewhere):
    assert walk() == [Outcome.RAN, Outcome.RAN]
    clone = elsewhere()
    assert walk() == [Outcome.FETCHED, Outcome.FETCHED]
    for name in ("out/draw/noise", "out/count/length", "dvc.lock"):
        assert (clone / name).read_bytes() == (here / name).read_bytes()
    assert walk() == [Outcome.UNCHANGED, Outcome.UNCHANGED]
    assert "up to date" in sh("dvc", "status")


def test_a_committed_lock_is_enough(here, elsewhere, store, bucket):
    walk()
    commit()
    store.rm(f"{bucket}/dvc/runs", recursive=True)
    elsewhere()
    assert walk() == [Outcome.FETCHED, Outcome.FETCHED]
    assert store.find(f"{bucket}/dvc/runs")  # for those who have no lock


def test_dvc_finds_what_the_flow_shared(here, elsewhere):
    walk()
    clone = elsewhere()
    said = sh("dvc", "repro", "--pull")
    assert "Running stage" not in said
    assert (clone / "out/count/length").read_text() == "6"


def test_the_flow_finds_what_dvc_shared(here, elsewhere):
    sh("dvc", "repro")
    sh("dvc", "push", "--run-cache")
    elsewhere()
    assert walk() == [Outcome.FETCHED, Outcome.FETCHED]


def test_what_dvc_made_here_is_shared_too(here, elsewhere):
    sh("dvc", "repro")
    assert walk() == [Outcome.UNCHANGED, Outcome.UNCHANGED]
    elsewhere()
    assert walk() == [Outcome.FETCHED, Outcome.FETCHED]


def test_finished_stages_are_shared_when_a_later_one_fails(here, elsewhere):
    (here / "count.py").write_text("raise SystemExit(1)")
    commit()
    with pytest.raises(StageError):
        walk()
    elsewhere()
    graph = Graph()
    assert graph.bring_up_to_date(graph.steps[0], print).outcome is Outcome.FETCHED


def test_a_graph_sees_what_came_after_it_had_looked(here, elsewhere, monkeypatch):
    """As a flow does that waits for another machine."""
    walk()
    (here / "count.py").write_text(COUNT + "# another")
    commit()
    elsewhere()
    graph = Graph()
    draw, count = graph.steps
    graph.bring_up_to_date(draw, print)
    assert not graph.remote.fetch(graph.repo.stage.load_one(name="count"))
    monkeypatch.chdir(here)
    assert walk() == [Outcome.UNCHANGED, Outcome.RAN]
    monkeypatch.chdir(graph.repo.root_dir)
    assert graph.bring_up_to_date(count, print).outcome is Outcome.FETCHED


def test_force_runs_though_the_remote_has_it(here, elsewhere):
    walk()
    elsewhere()
    assert walk(force=True) == [Outcome.RAN, Outcome.RAN]


def test_what_is_known_to_be_shared_needs_no_remote(here, monkeypatch):
    walk()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert walk() == [Outcome.UNCHANGED, Outcome.UNCHANGED]


def test_without_a_default_remote_none_is_touched(here, store, bucket):
    sh("dvc", "config", "core.remote", "")
    assert walk() == [Outcome.RAN, Outcome.RAN]
    assert store.find(bucket) == []


def test_files_that_the_remote_lost_are_made_again(here, elsewhere, store, bucket):
    walk()
    store.rm(f"{bucket}/dvc/files", recursive=True)
    elsewhere()
    assert walk() == [Outcome.RAN, Outcome.RAN]
    assert store.find(f"{bucket}/dvc/files")


class Cut:
    """A relay to the store that breaks each connection after some bytes, while it is told to."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.target = (host, int(port))
        self.limit: int | None = None
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                for pair in (client, server), (server, client):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if self.limit is not None and passed > self.limit:
                    self.cuts += 1
                    break
                target.sendall(data)
        for end in source, target:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def cut(s3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:
    relay = Cut(s3.environment["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries five times, too
    with closing(relay.listener):
        yield relay


def test_wrong_credentials_are_told_and_not_tried_again(here, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guessed-wrong")
    with pytest.raises(RemoteError, match=r"draw: .*s3://[\s\S]*AWS_ACCESS_KEY_ID") as caught:
        walk()
    assert not caught.value.may_pass
    assert "guessed-wrong" not in str(caught.value)
    assert not (here / "out").exists()


def test_no_credentials(here, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(RemoteError, match="credentials") as caught:
        walk()
    assert not caught.value.may_pass


def test_a_missing_bucket_is_told_and_not_made(here, store):
    sh("dvc", "remote", "modify", "store", "url", "s3://mistyped/dvc")
    with pytest.raises(RemoteError, match="make its bucket"):
        walk()
    assert not store.exists("mistyped")


def test_an_unreachable_store_is_told_and_may_pass(here, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(RemoteError, match="try again") as caught:
        walk()
    assert caught.value.may_pass
    assert not (here / "dvc.lock").exists()


def test_a_remote_without_a_definition_is_told(here):
    sh("dvc", "config", "core.remote", "other")
    with pytest.raises(StageError, match="other"):
        walk()


def test_a_push_that_is_cut_leaves_nothing_torn_and_goes_on(here, cut, store, bucket):
    cut.limit = 500_000
    with pytest.raises(RemoteError, match="draw: its result must be pushed") as caught:
        walk()
    assert cut.cuts
    assert caught.value.may_pass
    cut.limit = None
    left = store.find(f"{bucket}/dvc/files")
    objects("s3", left)
    assert not [name for name in left if name.endswith(".dir")]
    assert not store.find(f"{bucket}/dvc/runs")
    assert walk() == [Outcome.UNCHANGED, Outcome.RAN]
    objects("s3", store.find(f"{bucket}/dvc/files"))


@pytest.mark.parametrize("draw", [TWO_FILES, ONE_FILE], ids=["files", "one file"])
def test_a_fetch_that_is_cut_leaves_nothing_torn_and_goes_on(here, elsewhere, cut, draw):
    """Of the last file that comes in part, DVC by itself would keep the part, and believe it."""
    (here / "draw.py").write_text(draw)
    commit()
    walk()
    clone = elsewhere()
    cut.limit = 100_000
    with pytest.raises(RemoteError, match="draw: its result must be fetched"):
        walk()
    assert cut.cuts
    objects("", cached(clone))
    assert not (clone / "dvc.lock").exists()
    cut.limit = None
    assert walk() == [Outcome.FETCHED, Outcome.FETCHED]
    objects("", cached(clone))


def test_a_damaged_file_is_told_and_not_believed(here, elsewhere, store, bucket):
    walk()
    for name in store.find(f"{bucket}/dvc/files"):
        if not name.endswith(".dir"):
            store.pipe_file(name, b"damaged")
    clone = elsewhere()
    with pytest.raises(RemoteError, match=r"DamageError: .*/files/md5/.*\nnext: remove") as caught:
        walk()
    assert not caught.value.may_pass
    assert not (clone / "out/draw").exists()


def test_a_store_that_is_killed_is_told_and_the_next_run_goes_on(
    here, elsewhere, tmp_path_factory, monkeypatch, bucket
):
    folder, ports = tmp_path_factory.mktemp("own"), free_ports(4)
    (here / "count.py").write_text(COUNT + "print('counted')\n")
    commit()
    with serving_s3(folder, ports) as (own, server):
        monkeypatch.setenv("AWS_ENDPOINT_URL", own.environment["AWS_ENDPOINT_URL"])
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
        graph = Graph()
        draw, count = graph.steps
        graph.bring_up_to_date(draw, print)
        with pytest.raises(RemoteError, match="count: its result must be pushed") as caught:
            graph.bring_up_to_date(count, lambda line: line == "counted" and server.kill())
    assert caught.value.may_pass
    with serving_s3(folder, ports):
        assert walk() == [Outcome.UNCHANGED, Outcome.UNCHANGED]
        elsewhere()
        assert walk() == [Outcome.FETCHED, Outcome.FETCHED]


def test_no_secret_is_told(here, monkeypatch):
    sh("dvc", "remote", "modify", "--local", "store", "secret_access_key", "hidden-in-dvc")
    sh("dvc", "remote", "modify", "--local", "store", "access_key_id", "known-by-name")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "in-the-environment")
    words = "hidden-in-dvc known-by-name in-the-environment http://me:pass@host/"
    settings = Graph().repo.config["remote"]["store"]
    assert discreet(words, settings) == "*** *** *** http://***@host/"
