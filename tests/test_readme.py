"""The README's commands are run, and its numbers are those of the shipped model."""

import re
import subprocess
from pathlib import Path

import pytest

from tasks import files

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)


def test_is_short_enough_to_be_read():
    assert 100 <= len(TEXT.splitlines()) <= 230


@pytest.mark.xdist_group("trained")
def test_numbers_are_the_shipped_models(first):
    evaluated = first[0] / "data/evaluate"
    metrics = files.read_json(evaluated / "metrics.json")
    baselines = files.read_json(evaluated / "baselines.json")
    table = TEXT.split("<!-- metrics")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[3:]]
    assert len(rows) >= 4
    for words, value, interval, single, everybody in rows:
        name = re.findall(r"`(\w+)`", words)[0]
        bounds = metrics["test_interval"][name]
        assert value == f"{metrics['test'][name]:.3f}"
        assert interval == f"{bounds['low']:.3f} to {bounds['high']:.3f}"
        assert single == f"{baselines['one_feature']['test'][name]:.3f}"
        assert everybody == f"{baselines['base_rate']['test'][name]:.3f}"


def test_packages_go_into_the_environment_of_the_checkout():
    """Another virtual environment may be active, and uv would take that one."""
    command = ["make", "--dry-run", "--always-make", ".venv/dev"]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installs = [line for line in plan.splitlines() if " sync " in line]
    assert len(installs) == 3
    assert all("--python .venv/bin/python " in line for line in installs)


@pytest.mark.xdist_group("trained")
def test_shell_blocks_run(trained: Path, environment):
    """All but `make test`, which is what runs this; of it, what it would run is looked at."""
    (trained / ".venv").symlink_to(ROOT / ".venv")
    assert BLOCKS[:2] == ["make train\n", "make test\n"]
    for block in BLOCKS:
        script = block.replace("make test", "make --dry-run test | grep ^pytest")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=trained,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, script + done.stdout + done.stderr
