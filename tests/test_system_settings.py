"""What `make up` is told, what it remembers, and what it keeps to itself."""

import os
from pathlib import Path

import pytest

from flows.system import environment
from flows.system.settings import System
from tasks.errors import ParamsError, StageError


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("VERBATIM_", "DATABASE_URL"))]:
        monkeypatch.delenv(name)


def test_addresses_hold_until_others_are_given(monkeypatch):
    monkeypatch.setenv("VERBATIM_PREFECT_PORT", "4242")
    environment.write(System.load())
    monkeypatch.delenv("VERBATIM_PREFECT_PORT")
    assert System.load().prefect == "http://127.0.0.1:4242"
    monkeypatch.setenv("VERBATIM_PREFECT_PORT", "4343")
    assert System.load().prefect_port == 4343


def test_keys_are_drawn_once_and_are_the_owners_alone():
    system = System.load()
    environment.write(system)
    first = environment.keys(system)
    environment.write(system)
    assert environment.keys(system) == first
    for name in ("keys.json", "store.json", "environment", "mlflow-users.ini"):
        assert (system.root / name).stat().st_mode & 0o777 == 0o600, name


def test_damaged_keys_are_told_and_new_ones_can_be_drawn():
    system = System.load()
    environment.write(system)
    file = system.root / "keys.json"
    file.write_text(file.read_text()[:20])
    with pytest.raises(StageError, match=r"keys\.json: must be JSON .*\nnext: bring it back"):
        environment.write(system)
    file.unlink()
    environment.write(system)
    assert not list(system.root.glob("*.tmp"))


def test_secrets_are_not_remembered_where_addresses_are(monkeypatch):
    monkeypatch.setenv("VERBATIM_PASSWORD", "hidden-one")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hidden-two@127.0.0.1/postgres")
    monkeypatch.setenv("VERBATIM_NOTIFY_URL", "https://hooks.example.org/hidden-three")
    system = System.load()
    environment.write(system)
    assert "hidden" not in (system.root / "settings").read_text()
    assert "hidden" not in repr(system)


def test_who_is_told_is_kept_by_the_server_alone(monkeypatch):
    monkeypatch.setenv("VERBATIM_NOTIFY_URL", "https://hooks.example.org/hidden")
    environment.write(System.load())
    monkeypatch.setenv("VERBATIM_NOTIFY_URL", "")
    system = System.load()
    system.check()
    assert system.notify_url is None
    files = [file for file in system.root.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if "hidden" in file.read_text()]
    assert "hidden" not in str(environment.environment(system))


@pytest.mark.parametrize("url", ["hooks.example.org/hidden", "https://a/hidden https://b/hidden"])
def test_what_is_no_web_address_is_refused_without_being_repeated(monkeypatch, url: str):
    monkeypatch.setenv("VERBATIM_NOTIFY_URL", url)
    with pytest.raises(ParamsError, match=r"VERBATIM_NOTIFY_URL: .* must be one address") as caught:
        System.load()
    assert "hidden" not in str(caught.value)


def test_each_part_has_a_database_of_its_own(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:p%40ss@db:5432/postgres")
    found = environment.environment(System.load())
    assert found["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == (
        "postgresql+asyncpg://me:p%40ss@db:5432/prefect"
    )
    assert found["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:p%40ss@db:5432/mlflow"
    assert found["OPTUNA_STORAGE"] == "postgresql://me:p%40ss@db:5432/optuna"


def test_what_a_shell_sources_tells_it_where_everything_is(tmp_path: Path):
    environment.write(System.load())
    text = (tmp_path / ".verbatim/system/environment").read_text()
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "OPTUNA_STORAGE"):
        assert f"export {name}=" in text
    assert "DATABASE_CONNECTION" not in text


def test_wrong_settings_are_named_together_and_a_secret_is_not_repeated(monkeypatch):
    monkeypatch.setenv("VERBATIM_S3_PORT", "many")
    monkeypatch.setenv("VERBATIM_REPOSITORY", "https://me:hidden@git.example.org/x.git")
    with pytest.raises(ParamsError) as caught:
        System.load()
    assert "VERBATIM_S3_PORT" in str(caught.value)
    assert "VERBATIM_REPOSITORY: Value error, must name no user" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["/srv/git/x", "git@git.example.org:x.git", "https://git.example.org/x"]
)
def test_a_repository_without_a_token_is_taken(monkeypatch, url: str):
    monkeypatch.setenv("VERBATIM_REPOSITORY", url)
    assert System.load().repository == url


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("postgresql://me@db:5432", "postgresql+asyncpg://me@db:5432/prefect"),
        ("postgresql://db/x?sslmode=require", "postgresql+asyncpg://db/prefect?ssl=require"),
        (
            "postgresql://db/x?sslrootcert=/etc/ca.pem",
            "postgresql+asyncpg://db/prefect?sslrootcert=/etc/ca.pem",
        ),
    ],
)
def test_all_else_of_a_databases_address_stays(monkeypatch, given: str, wanted: str):
    monkeypatch.setenv("DATABASE_URL", given)
    assert System.load().database("prefect", "postgresql+asyncpg") == wanted


def test_it_does_not_start_open_or_empty_after_it_was_closed_and_full(monkeypatch):
    monkeypatch.setenv("VERBATIM_PASSWORD", "hidden")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/x")
    environment.write(System.load())
    System.load().check()
    monkeypatch.delenv("VERBATIM_PASSWORD")
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(ParamsError, match=r"VERBATIM_PASSWORD.*\n.*DATABASE_URL"):
        System.load().check()


def test_servers_that_others_reach_need_a_password(monkeypatch):
    monkeypatch.setenv("VERBATIM_HOST", "10.0.0.5")
    with pytest.raises(ParamsError, match="VERBATIM_PASSWORD: must be given"):
        System.load().check()


def test_what_the_caller_has_for_other_servers_does_not_reach_ours(monkeypatch):
    for name in ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "PREFECT_API_KEY", "MLFLOW_RUN_ID"):
        monkeypatch.setenv(name, "of-another-server")
    assert "of-another-server" not in environment.environment(System.load()).values()


@pytest.mark.parametrize("name", ["VERBATIM_PASSWORD", "DATABASE_URL"])
def test_an_empty_secret_is_none(monkeypatch, name: str):
    monkeypatch.setenv(name, "")
    monkeypatch.setenv("VERBATIM_HOST", "10.0.0.5")
    with pytest.raises(ParamsError, match="VERBATIM_PASSWORD: must be given"):
        System.load().check()


def test_servers_do_not_share_ports_not_even_those_that_the_store_takes_besides(monkeypatch):
    monkeypatch.setenv("VERBATIM_MLFLOW_PORT", "8335")
    with pytest.raises(ParamsError, match="VERBATIM_MLFLOW_PORT: must differ"):
        System.load().check()


def test_a_database_of_another_kind_is_refused_without_its_password(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hidden@db/x")
    with pytest.raises(ParamsError, match=r"DATABASE_URL: .* must be postgresql") as caught:
        System.load()
    assert "hidden" not in str(caught.value)
