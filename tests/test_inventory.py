import hashlib
from pathlib import Path

import pytest

from tasks import content, inventory
from tasks.inventory import Content
from tasks.lineage import Lineage

SHA = "ab" * 32


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {"recipes/a.py": "a", "recipes/b.py": "b", "lake/1.csv": "1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "recipes" / "__pycache__").mkdir()
    (tmp_path / "recipes" / "__pycache__" / "a.pyc").write_text("compiled")
    return tmp_path


def lineage(checkout: Path) -> Lineage:
    folder = content.of_listing(content.code(checkout / "recipes"))
    causes = {
        "ingest": {"cmd": "i", "params": {}, "deps": {"lake": "1" * 32, "files.py": md5("f")}},
        "train": {"cmd": "t", "params": {}, "deps": {"recipes": folder, "files.py": md5("f")}},
    }
    outputs = {"out/ingest": "2" * 32, "out/train": "3" * 32}
    makes = {"ingest": ["out/ingest"], "train": ["out/train"]}
    return Lineage(causes, outputs, makes, {"train": ["out/ingest"]})


MANIFEST = {"source": "lake", "files": [{"path": "1.csv", "sha256": SHA, "etag": "x-2"}]}


def test_all_that_was_read_or_written_is_listed_with_stages_and_hashes(checkout: Path) -> None:
    found = {each.path: each for each in inventory.listed(lineage(checkout), MANIFEST, checkout)}
    assert found["files.py"] == Content("files.py", "source", ("ingest", "train"), (md5("f")[:16],))
    assert found["recipes/a.py"] == Content("recipes/a.py", "source", ("train",), (md5("a")[:16],))
    assert found["out/ingest"].role == "output"
    assert found["out/ingest"].stages == ("ingest", "train"), "the one that makes it first"
    assert found["lake/1.csv"] == Content("lake/1.csv", "data", ("ingest",), (SHA[:16], "x-2"))
    assert not [path for path in found if "pycache" in path]


def test_files_of_a_folder_that_was_changed_since_are_not_believed(checkout: Path) -> None:
    before = lineage(checkout)
    (checkout / "recipes" / "b.py").write_text("changed")
    found = [each.path for each in inventory.listed(before, MANIFEST, checkout)]
    assert "recipes" in found
    assert not [path for path in found if path.startswith("recipes/")]


def test_the_source_may_be_one_file_or_lie_on_s3() -> None:
    assert inventory.address("data/all.csv", "all.csv") == "data/all.csv"
    assert (
        inventory.address("s3://bucket/lake", "m=1/x.parquet") == "s3://bucket/lake/m=1/x.parquet"
    )


def test_tags_hold_every_line_and_say_how_many_they_do_not(monkeypatch) -> None:
    many = [
        Content(f"a path/{number:05}", "data", ("ingest",), (SHA[:16],)) for number in range(500)
    ]
    tags = inventory.tags(many)
    assert len(tags) > 1
    assert all(len(text) <= inventory.LONGEST_TAG for text in tags.values())
    assert inventory.joined(tags) == many
    assert inventory.parsed(inventory.text(many)) == many
    monkeypatch.setattr(inventory, "MOST", 100)
    tags = inventory.tags(many)
    assert tags[inventory.BEYOND] == "400"
    assert inventory.joined(tags) == many[:100]


def test_tags_and_lines_of_somebody_else_are_passed_by() -> None:
    its = {f"{inventory.TAG}0": f"{SHA[:16]} data ingest 1.csv\nno line\nof our own and so on"}
    assert inventory.joined({**its, f"{inventory.TAG}type": "text/html"}) == [
        Content("1.csv", "data", ("ingest",), (SHA[:16],))
    ]
