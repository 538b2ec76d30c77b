"""Whole training runs that share a remote on S3: whatever ran in one clone runs in no other."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from conftest import Store, free_ports, serving_s3, train
from test_training import STAGES, api, dvc, flow_runs, git, happened

from tasks import lineage

pytestmark = pytest.mark.xdist_group("trained")


def client(store: Store) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem(
        "s3",
        key=store.environment["AWS_ACCESS_KEY_ID"],
        secret=store.environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=store.environment["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
    )


@pytest.fixture
def bucket(s3: Store) -> str:
    name = f"runs-{uuid4().hex[:8]}"
    client(s3).mkdir(name)
    return name


@pytest.fixture
def shared(prefect, s3: Store, tmp_path: Path) -> dict[str, str]:
    """The environment of people who share an S3 store and a place where runs are recorded."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return {**prefect, **s3.environment, "MLFLOW_TRACKING_URI": uri}


def share(checkout: Path, environment, bucket: str) -> None:
    dvc(checkout, environment, "remote", "add", "--default", "store", f"s3://{bucket}/dvc")
    commit(checkout)


def commit(checkout: Path) -> None:
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    git(checkout, *author, "commit", "--quiet", "--all", "--allow-empty", "--message", "shared")


@pytest.fixture
def clone(trained: Path, tmp_path: Path):
    def make(name: str) -> Path:
        git(tmp_path, "clone", "--quiet", str(trained), name)
        return tmp_path / name

    return make


def test_a_fresh_clone_runs_nothing(trained: Path, clone, shared, bucket):
    share(trained, shared, bucket)
    done = train(trained, shared)
    assert happened(done) == {**dict.fromkeys(STAGES, "cached"), "register": "ran"}, done.stderr
    there = clone("there")
    done = train(there, shared)
    assert done.returncode == 0, done.stderr
    assert happened(done) == dict.fromkeys(STAGES, "fetched")
    assert "churn-predictor/1" in done.stdout
    assert git(there, "diff", "--stat") == ""
    name = f"baseline-trees-{lineage.read(there / 'dvc.lock').short}"
    run = flow_runs(shared, name)[0]
    tasks = api(shared, "task_runs", flow_runs={"id": {"any_": [run["id"]]}})
    assert {task["state_name"] for task in tasks} == {"Cached"}
    assert all(task["state"]["message"].startswith("fetched: ") for task in tasks)


def test_a_snapshot_of_s3_is_shared_by_the_lock(trained: Path, clone, shared, bucket, s3):
    """DVC keeps no run cache of a stage that reads S3: without the lock it is read again."""
    client(s3).put(f"{trained}/data/lake/", f"{bucket}/purchases/", recursive=True)
    share(trained, shared, bucket)
    there = clone("there")
    source = ["--set", f"ingest.source=s3://{bucket}/purchases"]
    done = train(trained, shared, *source)
    assert done.returncode == 0, done.stderr
    assert happened(done)["ingest"] == "ran"
    done = train(there, shared, *source)
    assert happened(done) == {**dict.fromkeys(STAGES, "fetched"), "ingest": "ran"}, done.stderr
    assert (there / "dvc.lock").read_bytes() == (trained / "dvc.lock").read_bytes()
    commit(trained)
    done = train(clone("third"), shared)
    assert happened(done) == dict.fromkeys(STAGES, "fetched"), done.stderr


@pytest.fixture
def ports() -> Iterator[list[int]]:
    return free_ports(4)


def test_a_store_that_comes_back_is_used_and_nothing_runs_meanwhile(
    trained: Path, shared, bucket, ports, tmp_path_factory
):
    share(trained, shared, bucket)
    folder = tmp_path_factory.mktemp("late")
    environment = {**shared, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports[0]}"}
    with subprocess.Popen(
        ["python", "-m", "flows", "train"],
        cwd=trained,
        env={**environment, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "sample: its result must be pushed to s3://" in line:
                break
        with serving_s3(folder, ports) as (store, _):
            client(store).mkdir(bucket)
            lines += process.stdout
            assert process.wait() == 0, "".join(lines)
            assert client(store).find(f"{bucket}/dvc/runs")


def test_a_store_that_stays_away_is_told_with_no_secret(trained: Path, shared, bucket):
    share(trained, shared, bucket)
    shutil.rmtree(trained / "data/train")
    shutil.rmtree(trained / ".dvc/cache")
    done = train(trained, {**shared, "AWS_SECRET_ACCESS_KEY": "guessed-wrong"})
    assert done.returncode == 1
    assert happened(done) == {"sample": "failed"}
    assert "next: see where it is by `dvc remote list`" in done.stderr
    assert "guessed-wrong" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
