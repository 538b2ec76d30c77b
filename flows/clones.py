"""Clones of this checkout as it stands: its commit, what was changed since, and new files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tasks.errors import StageError

LEADING_OUT = (
    "MLFLOW_TRACKING_URI",
    "VERBATIM_SCORES",
    "DVC_SYSTEM_CONFIG_DIR",
)
"""Variables that would lead out of a clone, to a registry or a store that is in use."""

SILENT = {"OPENLINEAGE_DISABLED": "true"}
"""Variables with which what is done in a clone is told to no collector."""


def standing() -> str:
    """Hash what a clone would hold.

    Raises StageError if this is no git checkout.
    """
    found = hashlib.sha256(_git("rev-parse", "HEAD") + _changes())
    for name in _new():
        file = Path(name)
        content = str(file.readlink()).encode() if file.is_symlink() else file.read_bytes()
        found.update(name.encode() + hashlib.sha256(content).digest())
    return found.hexdigest()


def clone(target: Path, *, cache: Path, site: Path | None = None) -> None:
    """Clone this checkout; whole or not at all.

    cache  of DVC in the clone
    site   for what DVC keeps elsewhere by default

    What git ignores is left out. Raises StageError if this is no git checkout.
    """
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _git("clone", "--quiet", ".", str(partial))
    if changes := _changes():
        _git("apply", "--whitespace=nowarn", cwd=partial, given=changes)
    for name in _new():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, partial / name, follow_symlinks=False)
    configure(partial / ".dvc/config.local", cache=cache, site=site)
    partial.rename(target)


def configure(file: Path, *, cache: Path, site: Path | None = None, **core: str) -> None:
    """Write the settings that DVC has in a copy of a checkout alone.

    core  more settings of its section `core`
    """
    lines = ["[core]", "    analytics = false"]
    lines += [f"    site_cache_dir = {site}"] if site else []
    lines += [f"    {name} = {value}" for name, value in core.items()]
    lines += ["[cache]", f"    dir = {cache}"]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _changes() -> bytes:
    return _git("diff", "HEAD", "--binary")


def _new() -> list[str]:
    """Name the files that git neither tracks nor ignores; what is a repository itself is none."""
    listed = _git("ls-files", "--others", "--exclude-standard", "-z").decode().split("\0")
    return [name for name in listed if name and not name.endswith("/")]


def _git(*words: str, cwd: Path = Path(), given: bytes | None = None) -> bytes:
    done = subprocess.run(["git", *words], cwd=cwd, input=given, capture_output=True, check=False)
    if done.returncode:
        raise StageError(
            f"git {words[0]}: must work on this checkout (got {done.stderr.decode().strip()})"
        )
    return done.stdout
