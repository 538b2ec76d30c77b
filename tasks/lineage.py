"""What determines a result, and the one key that names it.

The lineage key is the SHA-256 of every command, parameter in use, code and source-data hash that
leads to the model; outputs are left out because they follow from these. `register` reads it back
from `dvc.lock`; the training flow foresees the same key from the graph before anything has run.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import files

LAST = "register"
"""The stage that records the result, and so is not part of what determines it."""


@dataclass(frozen=True)
class Lineage:
    """Where a result comes from.

    causes   stage -> {"cmd": ..., "params": {key: value}, "deps": {path: hash}}, sources only
    outputs  path -> hash, of every stage before `register`
    makes    stage -> paths of its outputs
    reads    stage -> paths that it reads of what other stages make
    """

    causes: dict[str, dict[str, Any]]
    outputs: dict[str, str]
    makes: dict[str, list[str]] = field(default_factory=dict)
    reads: dict[str, list[str]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 of the causes, in hex."""
        canonical = json.dumps(self.causes, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def short(self) -> str:
        """The first 8 digits of the key, as used in names."""
        return self.key[:8]

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter in use, by its dotted path in `params.yaml`."""
        return {
            key: value
            for cause in self.causes.values()
            for name, branch in cause["params"].items()
            for key, value in flat(name, branch)
        }

    @property
    def sources(self) -> dict[str, str]:
        """Hash of each file or folder that no stage makes: code, data, the environment's lock."""
        return {path: md5 for cause in self.causes.values() for path, md5 in cause["deps"].items()}


@dataclass(frozen=True)
class Commit:
    """The commit a checkout stands on; `dirty` if tracked files differ from it.

    Empty strings outside a git repository.
    """

    sha: str
    dirty: bool
    author: str


def run_name(intent: str, model: str, lineage: Lineage) -> str:
    """Give the one name that a run bears in Prefect, MLflow and DVC."""
    return f"{intent}-{model}-{lineage.short}"


def read(lock: Path = Path("dvc.lock")) -> Lineage:
    """Read the lineage of the result that `lock` describes; `register` itself may be absent."""
    return told(files.read_yaml(lock), files.read_yaml(lock.with_name("dvc.yaml")))


def told(lock: Mapping[str, Any], graph: Mapping[str, Any]) -> Lineage:
    """Give the lineage that the contents of `dvc.lock` and `dvc.yaml` tell."""
    locked, wanted = lock["stages"], graph["stages"]  # a lock keeps what was removed
    before = {name: locked[name] for name in wanted if name != LAST}
    outputs = {
        out["path"]: content_hash(out) for stage in before.values() for out in stage.get("outs", [])
    }
    causes = {
        name: cause(
            stage["cmd"],
            stage.get("params", {}).get("params.yaml", {}),
            {dep["path"]: content_hash(dep) for dep in stage.get("deps", [])},
            outputs,
        )
        for name, stage in before.items()
    }
    makes = {name: _paths(stage, "outs") for name, stage in before.items()}
    reads = {
        name: [path for path in _paths(stage, "deps") if path in outputs]
        for name, stage in before.items()
    }
    return Lineage(causes, outputs, makes, reads)


def _paths(stage: Mapping[str, Any], kind: str) -> list[str]:
    return [each["path"] for each in stage.get(kind, [])]


def cause(
    command: str, params: Mapping[str, Any], deps: Mapping[str, str], made: Container[str]
) -> dict[str, Any]:
    """Describe one stage by what is not itself `made` by a stage."""
    sources = {path: deps[path] for path in sorted(deps) if path not in made}
    return {"cmd": command, "params": dict(params), "deps": sources}


def content_hash(entry: Mapping[str, Any]) -> str:
    """Take the hash from an entry of `dvc.lock`: an MD5, or the ETag of a remote file."""
    return str(entry[entry["hash"]] if "hash" in entry else entry.get("md5") or entry["etag"])


def is_data(path: str) -> bool:
    """Tell a source of data from code and from the environment's lock."""
    return "://" in path or path.startswith("data/") or Path(path).suffix in {".csv", ".parquet"}


def commit() -> Commit:
    """Ask git where the current folder stands."""
    sha = _git("rev-parse", "HEAD")
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    author = _git("log", "-1", "--format=%an <%ae>") if sha else ""
    return Commit(sha, dirty, author)


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def flat(name: str, branch: Any) -> list[tuple[str, Any]]:
    """Give each value of a branch of parameters by its dotted path."""
    if not isinstance(branch, dict) or not branch:
        return [(name, branch)]
    return [pair for key, value in branch.items() for pair in flat(f"{name}.{key}", value)]
