from pathlib import Path

import polars as pl
import worlds
from worlds import MONITOR, planted

from tasks import monitor_figures, monitoring

PICTURES = {"drift.png", "scores.png", "volume.png", "live.png"}


def draw(folder: Path, today: pl.DataFrame | None = None) -> dict[str, bytes]:
    shop = worlds.shop()
    seen, patterns = shop.seen(today), shop.champion.settings["evaluate"]["drift_ignored"]
    found = monitoring.judge(MONITOR, seen, patterns)
    monitor_figures.draw(folder, seen, MONITOR, patterns, found)
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_equal_worlds_are_equal_pictures(tmp_path: Path):
    first, second = draw(tmp_path / "first"), draw(tmp_path / "second")
    assert set(first) == PICTURES
    assert first == second


def test_drift_shows(tmp_path: Path):
    rows = planted(worlds.shop().rows, "cents", pl.col("cents") * 100)
    quiet, loud = draw(tmp_path / "quiet"), draw(tmp_path / "loud", rows)
    assert quiet["drift.png"] != loud["drift.png"]
    assert quiet["volume.png"] == loud["volume.png"]


def test_what_cannot_be_told_is_not_drawn(tmp_path: Path):
    assert set(draw(tmp_path, worlds.shop().rows.drop("pieces"))) == {"volume.png"}
