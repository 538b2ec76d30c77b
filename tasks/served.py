"""Read an MLflow server by its REST interface: questions are answered without importing MLflow.

As `rows` of a local store: everything raises one of `rows.FAULTS` if the server does not answer as
expected, and whoever asks then asks MLflow. Credentials are those that MLflow takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from tasks.rows import Found

PAGE, AT_ONCE = 1000, 100
"""How much is asked for at once: of what is small, and of runs."""

SECONDS = 20.0
"""How long an answer may take."""

_FINISHED = "attributes.status = 'FINISHED'"


class Served:
    """A server, opened by `opened`."""

    def __init__(self, session: Any, address: str) -> None:
        self._session, self._address = session, address.rstrip("/")

    def _got(self, place: str, **words: Any) -> Any:
        answer = self._session.get(f"{self._address}/{place}", params=words, timeout=SECONDS)
        answer.raise_for_status()
        return answer

    def _told(self, question: str, **words: Any) -> dict[str, Any]:
        return dict(self._got(f"api/2.0/mlflow/{question}", **words).json())

    @cached_property
    def _places(self) -> list[str]:
        its = self._told("experiments/search", max_results=PAGE).get("experiments", [])
        return [each["experiment_id"] for each in its]

    def search(self, condition: str, *, most: int | None = None) -> list[dict[str, Any]]:
        """Give finished runs that fulfil a condition, the newest first, `most` at most."""
        body = {
            "experiment_ids": self._places,
            "filter": f"{condition} and {_FINISHED}",
            "order_by": ["attributes.start_time DESC"],
            "max_results": AT_ONCE if most is None else most,
        }
        found: list[dict[str, Any]] = []
        while True:
            place = f"{self._address}/api/2.0/mlflow/runs/search"
            answer = self._session.post(place, json=body, timeout=SECONDS)
            answer.raise_for_status()
            told = answer.json()
            found += told.get("runs", [])
            token = told.get("next_page_token")
            if not token or (most is not None and len(found) >= most):
                return found
            body["page_token"] = token

    def named(self, run: str) -> Found:
        """Give the newest finished run with this name, else id; raises LookupError without one."""
        by_name = self.search(f"attributes.run_name = '{run}'", most=1)
        return found(by_name[0]) if by_name else self.run(run)

    def run(self, run_id: str) -> Found:
        """Give the finished run with this id, whatever others are called."""
        return found(self.search(f"attributes.run_id = '{run_id}'", most=1)[0])

    def text(self, run_id: str, name: str) -> str:
        """Read an artifact of a run."""
        return str(self._got("get-artifact", run_uuid=run_id, path=name).content, "utf-8")

    def alias(self, model_name: str, alias: str) -> int:
        """Give the version that an alias points to."""
        its = self._told("registered-models/alias", name=model_name, alias=alias)
        return int(its["model_version"]["version"])

    def version(self, model_name: str, number: int) -> tuple[str, str, dict[str, str]]:
        """Give run, model and tags of a version."""
        its = self._told("model-versions/get", name=model_name, version=number)["model_version"]
        return str(its["run_id"]), str(its["source"]), pairs(its.get("tags", []))

    def newest(self, model_name: str, run_id: str) -> int | None:
        """Give the newest version that was made of a run, if one was."""
        its = [number for _, name, number in self.versions([run_id]) if name == model_name]
        return max(its, default=None)

    def versions(self, runs: Sequence[str]) -> list[tuple[str, str, int]]:
        """Give run, model and number of each version that was made of one of these runs."""
        found = []
        for start in range(0, len(runs), AT_ONCE):
            named = ", ".join(f"'{run}'" for run in runs[start : start + AT_ONCE])
            words = {"filter": f"run_id IN ({named})", "max_results": PAGE}
            for each in self._told("model-versions/search", **words).get("model_versions", []):
                found.append((str(each["run_id"]), str(each["name"]), int(each["version"])))  # noqa: PERF401
        return found


def pairs(listed: list[dict[str, Any]]) -> dict[str, Any]:
    """Give a list of keys and values as a mapping."""
    return {each["key"]: each["value"] for each in listed}


def found(run: dict[str, Any]) -> Found:
    """Read a run as the server gives it."""
    info, data = run["info"], run["data"]
    models = run.get("outputs", {}).get("model_outputs", [])
    return Found(
        run_id=info["run_id"],
        name=info["run_name"],
        recorded=int(info["start_time"]),
        tags=pairs(data.get("tags", [])),
        values=pairs(data.get("params", [])),
        scores={name: float(value) for name, value in pairs(data.get("metrics", [])).items()},
        model_id=models[0]["model_id"] if models else None,
    )


@contextmanager
def opened(address: str) -> Iterator[Served]:
    """Open a connection to a server."""
    import requests

    with requests.Session() as session:
        name = os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD")
        if name and password:
            session.auth = (name, password)
        elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            session.headers["Authorization"] = f"Bearer {token}"
        yield Served(session, address)
