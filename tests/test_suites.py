"""A wrong suite or profile file: every fault is named, with the file and what to type."""

import json
from pathlib import Path

import pytest

from tasks import reference, suites
from tasks.errors import DataValidationError
from tasks.suites import expectation, parameter

PROFILE = {"rows": 2, "columns": {"a": {"shares": [1.0]}, "t": {"dtype": "Date"}}}
PARAMETERS = {"dataset_version": "2020-01-01", "profile": PROFILE}
COLUMNS = expectation(suites.COLUMNS, column_list=["a", "t"])


def load(content: object, folder: Path) -> list[dict]:
    file = folder / "mine.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return suites.load(file, PARAMETERS)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"expectations": [', "must be JSON (got: Expecting value: line 1"),
        ("", "must be JSON"),
        ("[]", 'must hold a list "expectations"'),
        ({"expectations": []}, 'must hold a list "expectations"'),
        ({"expectations": {}}, 'must hold a list "expectations"'),
    ],
)
def test_a_file_without_expectations_is_refused(
    tmp_path: Path, content: object, named: str
) -> None:
    with pytest.raises(DataValidationError) as caught:
        load(content, tmp_path)
    assert f"mine.json: {named}" in str(caught.value)
    assert "python -m tasks.draft data/ingest " in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (3, "must be a mapping with a type and kwargs"),
        ({"type": "expect_x"}, "must be a mapping with a type and kwargs"),
        ({"kwargs": {}}, "None: ExpectationConfiguration.__init__() missing"),
        (expectation("expect_column_to_shine", column="a"), "expect_column_to_shine not found"),
        (
            expectation("expect_column_values_to_be_between", column="a", minimum=0, max_value=1),
            "expect_column_values_to_be_between: minimum extra fields not permitted",
        ),
        (
            expectation("expect_column_values_to_be_between", min_value=0),
            "expect_column_values_to_be_between: column field required",
        ),
        (
            expectation("expect_column_values_to_be_finite", column="a", extra=1),
            "expect_column_values_to_be_finite: extra extra fields not permitted",
        ),
        (
            expectation("expect_table_duplicates_to_be_at_most", max_share="few"),
            "expect_table_duplicates_to_be_at_most: max_share value is not a valid float",
        ),
        (
            expectation("expect_column_values_to_not_be_null", column="b"),
            "column must be one of a, t (got b)",
        ),
        (
            expectation(
                "expect_column_max_to_be_between", column="a", min_value=parameter("now()")
            ),
            "min_value must be one of dataset_version, profile (got now())",
        ),
        (
            expectation(
                "expect_column_drift_to_be_at_most",
                column="t",
                max_psi=0.1,
                profile=parameter("profile"),
            ),
            "the reference profile must tell how t is distributed",
        ),
    ],
)
def test_a_wrong_expectation_is_named(tmp_path: Path, asked: object, named: str) -> None:
    with pytest.raises(DataValidationError) as caught:
        load({"expectations": [COLUMNS, asked]}, tmp_path)
    line, _, then = str(caught.value).partition("\n")
    assert line.startswith(f"{tmp_path}/mine.json: expectations[1]: ")
    assert named in line
    assert then.startswith("next: ")
    assert "python -m tasks.draft" in then


def test_all_wrong_expectations_are_named_at_once(tmp_path: Path) -> None:
    wrong = [expectation("expect_a"), COLUMNS, expectation("expect_b"), 7]
    with pytest.raises(DataValidationError) as caught:
        load({"expectations": wrong}, tmp_path)
    assert [place in str(caught.value) for place in ("[0]", "[1]", "[2]", "[3]")] == [
        True,
        False,
        True,
        True,
    ]


def test_an_absent_suite_is_named_with_those_that_exist(tmp_path: Path) -> None:
    suites.write(tmp_path / "old.json", [COLUMNS], PROFILE)
    with pytest.raises(DataValidationError, match=r"new\.json: must exist \(got the suites: old\)"):
        suites.load(tmp_path / "new.json", PARAMETERS)


def test_a_written_suite_is_read_back(tmp_path: Path) -> None:
    kind = "expect_column_values_to_not_be_null"
    suite = [COLUMNS, expectation(kind, column="ä t", mostly=0.5)]
    written = [COLUMNS, expectation(kind, column="a", mostly=0.5)]
    suites.write(tmp_path / "mine.json", written, PROFILE)
    assert suites.load(tmp_path / "mine.json", PARAMETERS) == written
    assert reference.load(tmp_path / "mine.profile.json") == PROFILE
    suites.write(tmp_path / "mine.json", suite[1:], PROFILE)
    assert suites.load(tmp_path / "mine.json", PARAMETERS) == suite[1:]


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"rows": 3}', '{"columns": []}', None])
def test_a_wrong_profile_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "mine.profile.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(
        DataValidationError, match=r"mine\.profile\.json: must be a reference"
    ) as it:
        reference.load(file)
    assert str(it.value).endswith("mine.json")
