"""How many processes may train together, and who starts them."""

import os
from pathlib import Path

import pytest

from tasks import processes
from tasks.errors import ParamsError

MANY = (os.cpu_count() or 1) + 1


def test_one_needs_no_launching() -> None:
    assert not processes.launch(1, "tasks.train", Path("data"))
    assert (processes.count(), processes.is_first()) == (1, True)


def test_more_than_cores_are_refused_before_any_starts() -> None:
    with pytest.raises(ParamsError, match=rf"processes: must be at most .*got {MANY}\)"):
        processes.launch(MANY, "tasks.train", Path("data"))


def test_torchrun_may_start_more_on_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(MANY))
    monkeypatch.setenv("RANK", "1")
    assert not processes.launch(MANY, "tasks.train", Path("data"))
    assert (processes.count(), processes.is_first()) == (MANY, False)
