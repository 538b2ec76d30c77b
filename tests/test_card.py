import pytest

from tasks import card

H100 = {"gpu": "NVIDIA H100 80GB HBM3", "gpu_driver": "570.86.15"}
NO_GPU = {"gpu": "none", "gpu_driver": "none"}


@pytest.mark.parametrize(
    ("device", "deterministic", "machine", "said"),
    [
        ("cpu", True, H100, "The hashes above must come out again."),
        ("cuda", True, H100, "same card and driver: NVIDIA H100 80GB HBM3, 570.86.15. On others"),
        ("cuda", True, NO_GPU, "on the same card and driver. On others"),
        ("cuda", False, H100, "`deterministic: false`: the weights' bytes will not come out again"),
        (
            "cpu",
            False,
            NO_GPU,
            "`deterministic: false`: the weights' bytes will not come out again",
        ),
    ],
)
def test_reader_learns_what_comes_out_again(
    device: str,
    *,
    deterministic: bool,
    machine: dict[str, str],
    said: str,
) -> None:
    learner = {"device": device, "deterministic": deterministic}
    assert said in card._comes_out(learner, machine)
