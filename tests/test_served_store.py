"""`register` against an MLflow server that keeps its artifacts on S3: whole, or not at all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from conftest import Store, free_ports, serving_s3, wait_for
from left_behind import ASKED, MLFLOW_WARNS, REGISTER, leave, start

from tasks import lineage, store, tracking

pytestmark = MLFLOW_WARNS
PATIENCE_SECONDS = 300
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@contextmanager
def serving_mlflow(folder: Path, port: int, s3: Store) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the store in a folder, its artifacts on S3; ended with all that it started."""
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = [
        f"--backend-store-uri=sqlite:///{folder}/served.db",
        f"--artifacts-destination=s3://{s3.bucket}/mlflow",
    ]
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [*command, *places],
        cwd=folder,
        env={**os.environ, **store.QUIET, **s3.environment, "PATH": search},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def bucket(s3: Store) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem(
        "s3",
        key=s3.environment["AWS_ACCESS_KEY_ID"],
        secret=s3.environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=s3.environment["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def runs() -> list[str]:
    client = tracking.connect().MlflowClient()
    place = client.get_experiment_by_name(REGISTER["experiment"])
    found = client.search_runs([place.experiment_id]) if place else []
    return sorted(run.info.status for run in found)


def versions() -> list[int]:
    found = tracking.connect().MlflowClient().search_model_versions("")
    return sorted(int(version.version) for version in found)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(leave(tmp_path))
    return tmp_path


def test_a_killed_store_or_server_leaves_no_version_and_the_next_try_completes(
    here: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ports, (port,) = tmp_path_factory.mktemp("s3"), free_ports(4), free_ports(1)
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    words = {"MLFLOW_TRACKING_URI": address, **IMPATIENT}
    with serving_s3(folder, ports) as (s3, seaweed):
        bucket(s3).mkdir(s3.bucket)
        with serving_mlflow(here, port, s3):
            process = start(here, **words)
            eventually(lambda: bool(bucket(s3).find(f"{s3.bucket}/mlflow")))
            seaweed.kill()
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            store_status = process.returncode
            assert runs() == ["FAILED"]
            assert versions() == []
    assert store_status == os.EX_TEMPFAIL, errors
    with serving_s3(folder, ports) as (s3, _):
        with serving_mlflow(here, port, s3) as server:
            process = start(here, **words)
            eventually(lambda: "RUNNING" in runs())
            os.killpg(server.pid, signal.SIGKILL)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == os.EX_TEMPFAIL, errors
        with serving_mlflow(here, port, s3):
            assert runs() == ["FAILED", "RUNNING"]
            assert versions() == []
            process = start(here, **words)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0, errors
            assert runs() == ["FAILED", "FAILED", "FINISHED"]
            assert versions() == [1]
            record = tracking.find(lineage.read().key, **ASKED)
            assert record is not None
            assert record.complete
            kept = bucket(s3).find(f"{s3.bucket}/mlflow/{record.experiment_id}/{record.run_id}")
            assert any(name.endswith("/artifacts/model_card.md") for name in kept)
            monkeypatch.setattr(sys, "path", sys.path)  # MLflow puts the model's code first
            served = tracking.connect().pyfunc.load_model("models:/churn-predictor@staging")
            assert served is not None
