from dataclasses import replace
from typing import Any

import pytest
from claims import CLAIM, edited

from flows import lineage_report
from tasks import comparison


def changed(**told: Any) -> comparison.Differences:
    return comparison.of(CLAIM, edited(**told))


def test_the_same_content_is_said_to_be_so() -> None:
    assert comparison.of(CLAIM, replace(CLAIM, run_id="other", environment={})) == {}
    assert lineage_report.explain(("a", "b"), {}) == ["a and b are the same content"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"params": {"max_depth": 4}}, {"parameters": {"models.trees.max_depth": (3, 4)}}),
        (
            {"command": "python -m other"},
            {"commands": {"train": ("python -m it", "python -m other")}},
        ),
        ({"code": "9" * 32}, {"code": {"tasks/train.py": ("1" * 32, "9" * 32)}}),
        ({"suite": "9" * 32}, {"data": {"data/suites/a.json": ("2" * 32, "9" * 32)}}),
    ],
)
def test_one_change_is_named_and_nothing_else(told: dict[str, Any], expected: dict) -> None:
    assert changed(**told) == expected


def test_files_of_the_lake_are_compared_one_by_one() -> None:
    files = {"1.csv": "a" * 64, "2.csv": "c" * 64, "3.csv": "d" * 64}
    found = changed(lake="8" * 32, files=files)["data"]
    assert found["data/lake/2.csv"] == ("b" * 64, "c" * 64)
    assert found["data/lake/3.csv"] == (None, "d" * 64)
    assert "data/lake/1.csv" not in found


def test_in_a_folder_of_code_the_file_is_named_as_the_runs_recorded_it() -> None:
    one = edited(tags={"content.0": f"{'3' * 16} source train tasks/recipes/a.py"})
    other = edited(
        recipes="9" * 32,
        tags={
            "content.0": f"{'4' * 16} source train tasks/recipes/a.py\n"
            f"{'5' * 16} source train tasks/recipes/new.py"
        },
    )
    assert comparison.of(one, other)["code"] == {
        "tasks/recipes/a.py": ("3" * 16, "4" * 16),
        "tasks/recipes/new.py": (None, "5" * 16),
    }
    assert changed(recipes="9" * 32)["code"] == {"tasks/recipes": ("3" * 32, "9" * 32)}


def test_environment_is_told_package_by_package() -> None:
    found = changed(lock="9" * 32, environment={"python": "3.12.1", "xgboost": "3.2.0"})
    assert found == {
        "environment": {
            "requirements.lock": ("4" * 32, "9" * 32),
            "python": ("3.11.7", "3.12.1"),
            "polars": ("2.1.0", None),
        }
    }


def test_what_one_of_two_records_does_not_tell_of_a_machine_is_left_out() -> None:
    assert changed(environment={**CLAIM.environment, "cpu_features": "avx2"}) == {}


def test_outputs_are_named_where_nothing_that_determines_them_differs() -> None:
    found = changed(model="9" * 32, environment={**CLAIM.environment, "python": "other"})
    assert set(found) == {"environment", "outputs"}
    assert found["outputs"] == {"data/train": ("5" * 32, "9" * 32)}
    assert "data/train: 555555555555… → 999999999999…" in "\n".join(
        lineage_report.explain(("a", "b"), found)
    )


def test_of_what_is_not_recorded_only_the_lock_tells() -> None:
    unrecorded = replace(edited(params={"max_depth": 4}), manifest={}, environment={})
    assert comparison.of(CLAIM, unrecorded) == {"parameters": {"models.trees.max_depth": (3, 4)}}
