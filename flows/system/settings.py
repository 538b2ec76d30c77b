"""What the system on one machine is told by the environment, and remembers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.errors import ParamsError

PREFIX, DATABASE = "VERBATIM_", "DATABASE_URL"

POOLS = {"cpu-pool": "process", "gpu-pool": "process"}
"""The work pools of the system, and the type of each."""

HEARTBEAT_SECONDS = 30
"""How often a flow run says that it lives: the least that Prefect takes."""

KEPT = ("host", "prefect_port", "mlflow_port", "s3_port", "repository", "idle_timeout_minutes")
"""Settings that hold until others are given."""

SECRETS = ("password", "database_url")
"""Settings that are given each time; that they were given is remembered."""

WEB_ADDRESS = re.compile(r"https?://[^\s/]\S*")

HERE = ("127.0.0.1", "localhost")
"""Addresses that nobody reaches from outside."""


class System(BaseSettings):
    """The settings of `make up`, from variables such as VERBATIM_PREFECT_PORT."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    folder: Path = Field(
        default=Path(".verbatim/system"), description="of databases, keys and logs"
    )
    host: str = Field(default="127.0.0.1", description="the address that every server binds to")
    prefect_port: int = Field(default=4200, ge=1, le=65_535)
    mlflow_port: int = Field(default=5000, ge=1, le=65_535)
    s3_port: int = Field(
        default=8333,
        ge=1,
        le=55_000,
        description="of the store, which takes the three next ones, too, and four that are 10,000 "
        "above",
    )
    idle_timeout_minutes: float = Field(
        default=365 * 24 * 60.0,
        gt=0,
        description="after which the worker for GPUs stops, if its machine is one that is rented",
    )
    password: SecretStr | None = Field(
        default=None, description="turns the servers' own authentication on, for the user `admin`"
    )
    database_url: SecretStr | None = Field(
        default=None,
        validation_alias=DATABASE,
        description="of a PostgreSQL in which the databases `prefect`, `mlflow` and `optuna` are "
        "made; without one each has a SQLite file",
    )
    notify_url: SecretStr | None = Field(
        default=None,
        description="of a webhook that is told what became of runs; the server keeps it",
    )
    repository: str = Field(
        default="",
        description="which deployed runs clone; this one, if empty. Without a user or a token: git "
        "finds them on the worker's machine",
    )

    secrets: str = Field(default="", description="which secrets it was started with last")

    @field_validator("password", "database_url", "notify_url", mode="before")
    @classmethod
    def _empty_is_none(cls, secret: Any) -> Any:
        return secret or None

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith("postgresql://"):
            raise ValueError("must be postgresql://…")
        return url

    @field_validator("notify_url")
    @classmethod
    def _is_a_web_address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not WEB_ADDRESS.fullmatch(url.get_secret_value()):
            raise ValueError("must be one address: https://…")
        return url

    @field_validator("repository")
    @classmethod
    def _holds_no_secret(cls, repository: str) -> str:
        if repository.startswith("http") and "@" in urlsplit(repository).netloc:
            raise ValueError("must name no user, as that may be a token")
        return repository

    @property
    def prefect(self) -> str:
        """The address of Prefect's pages."""
        return f"http://{self.host}:{self.prefect_port}"

    @property
    def mlflow(self) -> str:
        """The address of MLflow."""
        return f"http://{self.host}:{self.mlflow_port}"

    @property
    def s3(self) -> str:
        """The address of the S3 store."""
        return f"http://{self.host}:{self.s3_port}"

    @property
    def ports(self) -> dict[str, int]:
        """All ports that servers listen on, by the variable that says so."""
        store = {f"S3_PORT + {more}": self.s3_port + more for more in range(1, 4)}
        ports = {
            "PREFECT_PORT": self.prefect_port,
            "MLFLOW_PORT": self.mlflow_port,
            "S3_PORT": self.s3_port,
            **store,
        }
        return {PREFIX + name: port for name, port in ports.items()}

    @property
    def root(self) -> Path:
        """The folder, absolute."""
        return self.folder.resolve()

    @classmethod
    def load(cls) -> System:
        """Read the environment; what it does not say is as when the system was started last.

        Raises ParamsError with a line for each variable that is wrong.
        """
        try:
            here = cls()
            kept = here.root / "settings"
            return cls(_env_file=kept) if kept.exists() else here  # type: ignore[call-arg]
        except ValidationError as error:
            wrong = [(str(each["loc"][0]).upper(), each["msg"]) for each in error.errors()]
            lines = [f"{'' if name == DATABASE else PREFIX}{name}: {why}" for name, why in wrong]
            raise ParamsError("\n".join(lines)) from None  # what was given may be a secret

    def save(self) -> None:
        """Keep the addresses, so that `down`, and the next `up`, need not be told again."""
        lines = [f"{PREFIX}{name.upper()}={getattr(self, name)}" for name in KEPT]
        given = [name for name in SECRETS if getattr(self, name) is not None]
        lines.append(f"{PREFIX}SECRETS={' '.join(given)}")
        (self.root / "settings").write_text("\n".join([*lines, ""]), encoding="utf-8")

    def check(self) -> None:
        """Raise ParamsError if it would start open to all, or without what it knew."""
        names = {"password": f"{PREFIX}PASSWORD", "database_url": DATABASE}
        errors = [
            f"{names[name]}: must be given again, as the system was started with one"
            for name in self.secrets.split()
            if getattr(self, name) is None
        ]
        ports = self.ports
        errors += [
            f"{name}: must differ from all others (got {port})"
            for name, port in ports.items()
            if list(ports.values()).count(port) > 1
        ]
        if self.password is None and self.host not in HERE:
            errors.append(f"{PREFIX}PASSWORD: must be given if VERBATIM_HOST is {self.host}")
        if errors:
            raise ParamsError("\n".join(errors))

    def database(self, name: str, driver: str = "postgresql") -> str:
        """Give the URL of one of the databases."""
        if self.database_url is None:
            kind = "sqlite+aiosqlite" if "+" in driver else "sqlite"
            return f"{kind}:///{self.root}/{name}.db"
        given = urlsplit(self.database_url.get_secret_value())
        query = given.query.replace("sslmode=", "ssl=") if "asyncpg" in driver else given.query
        return urlunsplit(given._replace(scheme=driver, path=f"/{name}", query=query))
