"""The environment of every process of the system, and the files that they read.

Everything that talks to the system is told the same: servers, workers, and whoever sources
`.verbatim/system/environment` in a shell. Keys are drawn once and stay in files of their owner.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
import textwrap
from pathlib import Path
from tempfile import gettempdir

from pydantic import SecretStr

from flows.system.settings import HEARTBEAT_SECONDS, System
from tasks import devices, store
from tasks.errors import StageError

BUCKET = "verbatim"
OURS = ("AWS_", "DATABASE_URL", "DVC_", "MLFLOW_", "OPTUNA_", "PREFECT_", "VERBATIM_")
"""How the variables begin that are ours to set: those of the caller mean other servers."""

USER = "admin"
"""Of Prefect's and MLflow's own authentication, where there is a password."""

EXPORTED = (
    "AWS_",
    "DVC_",
    "MLFLOW_TRACKING_",
    "OPTUNA_STORAGE",
    "PREFECT_API_",
    "PREFECT_SERVER_ANALYTICS",
    "VERBATIM_",
)
"""How the variables begin that a shell needs."""


def keys(system: System) -> dict[str, str]:
    """Give the keys of this system, drawn when it is started for the first time.

    Raises StageError if their file is damaged.
    """
    file = system.root / "keys.json"
    if not file.exists():
        drawn = {name: secrets.token_urlsafe(24) for name in ("access", "secret", "session")}
        # Below the folder, its path might be longer than a socket's may be.
        drawn["socket"] = f"{gettempdir()}/verbatim-{secrets.token_hex(8)}.sock"
        write_private(file, json.dumps(drawn))
    try:
        found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(
            f"{file}: must be JSON with the keys of the system (got {error})\n"
            "next: bring it back, or remove it, and others are drawn"
        ) from error
    return found


def environment(system: System) -> dict[str, str]:
    """Give the environment of every process of the system."""
    root, drawn = system.root, keys(system)
    inherited = {k: value for k, value in os.environ.items() if not k.startswith(OURS)}
    return {
        **inherited,
        **store.QUIET,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **_addresses(system),
        **_databases(system),
        **(_authentication(system.password, drawn) if system.password is not None else {}),
        "AWS_ACCESS_KEY_ID": drawn["access"],
        "AWS_SECRET_ACCESS_KEY": drawn["secret"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "DVC_SYSTEM_CONFIG_DIR": str(root / "dvc"),
        "DVC_SITE_CACHE_DIR": str(root / "dvc/site"),
        "GIT_AUTHOR_NAME": "Verbatim",
        "GIT_AUTHOR_EMAIL": "verbatim@localhost",
        "GIT_COMMITTER_NAME": "Verbatim",
        "GIT_COMMITTER_EMAIL": "verbatim@localhost",
        "VERBATIM_FOLDER": str(root),
        "VERBATIM_SOCKET": drawn["socket"],
        "VERBATIM_REPOSITORY": system.repository or str(Path.cwd()),
        "VERBATIM_CHECKPOINTS": str(root / "checkpoints"),
        "VERBATIM_SCORES": f"s3://{BUCKET}/scores",
        "VERBATIM_GPUS": str(max(1, devices.gpus())),
        "VERBATIM_IDLE_TIMEOUT_MINUTES": str(system.idle_timeout_minutes),
    }


def _addresses(system: System) -> dict[str, str]:
    return {
        "VERBATIM_HOST": system.host,
        "VERBATIM_S3_PORT": str(system.s3_port),
        "VERBATIM_MASTER_PORT": str(system.s3_port + 1),
        "VERBATIM_VOLUME_PORT": str(system.s3_port + 2),
        "VERBATIM_FILER_PORT": str(system.s3_port + 3),
        "AWS_ENDPOINT_URL": system.s3,
        "PREFECT_HOME": str(system.root / "prefect"),
        "PREFECT_SERVER_API_HOST": system.host,
        "PREFECT_SERVER_API_PORT": str(system.prefect_port),
        "PREFECT_API_URL": f"{system.prefect}/api",
        "PREFECT_UI_API_URL": f"{system.prefect}/api",
        "PREFECT_UI_URL": system.prefect,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "MLFLOW_TRACKING_URI": system.mlflow,
        "MLFLOW_HOST": system.host,
        "MLFLOW_PORT": str(system.mlflow_port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for what we have no use, six processes
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow",
    }


def _databases(system: System) -> dict[str, str]:
    return {
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # of a busy SQLite
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": system.database("prefect", "postgresql+asyncpg"),
        "MLFLOW_BACKEND_STORE_URI": system.database("mlflow"),
        "OPTUNA_STORAGE": system.database("optuna"),
        "MLFLOW_AUTH_CONFIG_PATH": str(system.root / "mlflow-users.ini"),
        "VERBATIM_MLFLOW_OPTIONS": "",
    }


def _authentication(given: SecretStr, drawn: dict[str, str]) -> dict[str, str]:
    password = given.get_secret_value()
    return {
        "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{password}",
        "PREFECT_API_AUTH_STRING": f"{USER}:{password}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": drawn["session"],
        "VERBATIM_MLFLOW_OPTIONS": "--app-name basic-auth",
    }


def write(system: System) -> None:
    """Write what the programs read: the store's keys, DVC's settings, and what a shell sources."""
    root, drawn = system.root, keys(system)
    system.save()
    for name in ("store", "prefect", "checkpoints", "log", "dvc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    credentials = [{"accessKey": drawn["access"], "secretKey": drawn["secret"]}]
    identity = {"name": "verbatim", "credentials": credentials, "actions": ["Admin"]}
    write_private(root / "store.json", json.dumps({"identities": [identity]}))
    write_private(root / "mlflow-users.ini", _mlflow_users(system))
    (root / "dvc/config").write_text(_dvc(system), encoding="utf-8")
    exported = {
        name: value for name, value in environment(system).items() if name.startswith(EXPORTED)
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(exported.items())]
    write_private(root / "environment", "\n".join([*lines, ""]))


def _dvc(system: System) -> str:
    return textwrap.dedent(f"""\
        [core]
            remote = {BUCKET}
        [cache]
            dir = {Path(".dvc/cache").resolve()}
        ['remote "{BUCKET}"']
            url = s3://{BUCKET}/dvc
            endpointurl = {system.s3}
        """)


def _mlflow_users(system: System) -> str:
    return textwrap.dedent(f"""\
        [mlflow]
        default_permission = MANAGE
        database_uri = sqlite:///{system.root}/mlflow-users.db
        admin_username = {USER}
        authorization_function = mlflow.server.auth:authenticate_request_basic_auth
        grant_default_workspace_access = false
        """)


def write_private(file: Path, text: str) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
    partial.replace(file)
