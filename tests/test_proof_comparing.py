"""What is passed by when a stored model is compared, and what is not."""

import pytest

from flows.proof import comparing


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("python=3.12.1", "python=3.11.7", True),
        ("pip<=24.0", "pip<=25.3", True),
        ("setuptools==80.9.0", "setuptools", True),
        ("pip", "pip @ https://elsewhere.example/pip.whl", False),
        ("pip==24.0", "pip==24.0 ; python_version < '4'", False),
        ("pip", "pip-audit", False),
        ("mlflow==3.1", "mlflow==3.2", False),
    ],
)
def test_of_packages_beside_the_lock_only_the_version_is_passed_by(
    one: str, other: str, *, is_same: bool
):
    one, other = ({"dependencies": [each]} for each in (one, other))
    assert (comparing._stated(one) == comparing._stated(other)) == is_same
