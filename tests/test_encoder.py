from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.encoder import Encoder
from tasks.errors import DataValidationError
from tasks.examples import Columns

COLUMNS = Columns(
    keys=("id",), numeric=("age", "smokes"), categorical=("town", "code"), target="ill"
)


def rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "age": [30, None, 50, 70],
            "smokes": [True, False, None, True],
            "town": ["Oslo", None, "Bergen", "Oslo"],
            "code": [7, 10, None, 7],
            "ill": [1, 0, 0, 1],
        }
    )


def test_numbers_become_float32_with_nan_where_missing() -> None:
    data = Encoder.fit(rows(), COLUMNS).encode(rows())
    assert data.numeric.dtype == np.float32
    expected = [[30, 1], [np.nan, 0], [50, np.nan], [70, 1]]
    np.testing.assert_array_equal(data.numeric, np.array(expected, np.float32))


def test_categories_become_codes_with_missing_and_unknown_of_their_own() -> None:
    encoder = Encoder.fit(rows(), COLUMNS)
    later = rows().with_columns(town=pl.Series(["Bergen", "Oslo", None, "Voss"]))
    data = encoder.encode(later)
    assert data.categorical.dtype == np.int32
    assert data.categorical[:, 0].tolist() == [2, 3, 0, 1]
    assert data.categorical[:, 1].tolist() == [3, 2, 0, 3], "codes go by the text: 10 before 7"
    assert data.cardinalities == (4, 4)


def test_names_are_numeric_then_categorical() -> None:
    data = Encoder.fit(rows(), COLUMNS).encode(rows())
    assert data.names == ("age", "smokes", "town", "code")
    assert len(data) == 4


def test_the_target_may_be_absent() -> None:
    encoder = Encoder.fit(rows(), COLUMNS)
    target = encoder.encode(rows()).target
    assert target is not None
    assert target.dtype == np.float32
    assert target.tolist() == [1, 0, 0, 1]
    assert encoder.encode(rows().drop("ill", "id")).target is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_what_is_not_finite_as_a_float32_is_missing(value: float) -> None:
    frame = rows().with_columns(age=pl.Series([30.0, value, 50.0, 70.0]))
    encoder = Encoder.fit(frame, COLUMNS)
    assert encoder == Encoder.fit(rows().cast({"age": pl.Float64}), COLUMNS)
    assert np.isnan(encoder.encode(frame).numeric[1, 0])


def test_statistics_are_those_of_the_values_that_are_there() -> None:
    age = Encoder.fit(rows(), COLUMNS).numbers["age"]
    assert (age.median, age.mean) == (50, 50)
    assert age.std == pytest.approx(np.std([30, 50, 70]))


@pytest.mark.parametrize("values", [[None] * 4, [5, 5, 5, 5]])
def test_a_column_that_does_not_vary_can_be_divided_by_its_std(values: list[int | None]) -> None:
    frame = rows().with_columns(age=pl.Series(values, dtype=pl.Int64))
    assert Encoder.fit(frame, COLUMNS).numbers["age"].std == 1


def test_integer_categories_that_pandas_made_floats_keep_their_codes() -> None:
    encoder = Encoder.fit(rows(), COLUMNS)
    floats = rows().with_columns(pl.col("code").cast(pl.Float64))
    np.testing.assert_array_equal(
        encoder.encode(floats).categorical, encoder.encode(rows()).categorical
    )


def test_the_order_of_columns_and_other_columns_do_not_matter() -> None:
    encoder = Encoder.fit(rows(), COLUMNS)
    shuffled = rows().select(sorted(rows().columns)).with_columns(other=pl.lit("x"))
    np.testing.assert_array_equal(encoder.encode(shuffled).numeric, encoder.encode(rows()).numeric)


def test_no_rows_and_no_columns_have_their_shape() -> None:
    columns = Columns(keys=("id",), numeric=("age",), categorical=(), target="ill")
    data = Encoder.fit(rows(), columns).encode(rows().head(0))
    assert data.numeric.shape == (0, 1)
    assert data.categorical.shape == (0, 0)
    assert Encoder.fit(rows(), columns).encode(rows()).categorical.shape == (4, 0)


def test_columns_of_nulls_alone_are_missing() -> None:
    encoder = Encoder.fit(rows(), COLUMNS)
    empty = rows().with_columns(age=pl.lit(None), town=pl.lit(None))
    assert np.isnan(encoder.encode(empty).numeric[:, 0]).all()
    assert encoder.encode(empty).categorical[:, 0].tolist() == [0, 0, 0, 0]


def test_all_absent_and_unfit_columns_are_named_together() -> None:
    encoder = Encoder.fit(rows(), COLUMNS)
    with pytest.raises(DataValidationError) as raised:
        encoder.encode(rows().drop("age", "town").with_columns(smokes=pl.lit("no")))
    message = str(raised.value)
    for words in ("column age: must be present", "column town: must be", "got String"):
        assert words in message


def test_a_target_that_is_given_must_be_0_or_1_already() -> None:
    encoder = Encoder.fit(rows(), COLUMNS)
    with pytest.raises(DataValidationError, match="column ill: must hold"):
        encoder.encode(rows().with_columns(ill=pl.lit("yes")))


def test_a_date_is_no_number() -> None:
    frame = rows().with_columns(age=pl.date(2024, 1, 1))
    with pytest.raises(DataValidationError, match=r"column age: must hold .* \(got Date\)"):
        Encoder.fit(frame, COLUMNS)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(st.none() | finite, st.none() | st.text(max_size=3)), min_size=1, max_size=20
    ),
    st.randoms(use_true_random=False),
)
def test_an_encoder_survives_json_and_ignores_the_order_of_rows(
    values: list[tuple[float | None, str | None]], random: Random
) -> None:
    columns = Columns(keys=(), numeric=("x",), categorical=("c",), target="y")
    schema = {"x": pl.Float64, "c": pl.String}
    frame = pl.DataFrame(values, schema=schema, orient="row")
    encoder = Encoder.fit(frame, columns)
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder
    assert (encoder.encode(frame).categorical != 1).all(), "training knows no unknown category"
    random.shuffle(values)
    shuffled = Encoder.fit(pl.DataFrame(values, schema=schema, orient="row"), columns)
    assert shuffled.categories == encoder.categories
    assert shuffled.numbers["x"].median == encoder.numbers["x"].median
