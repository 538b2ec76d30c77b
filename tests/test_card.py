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


CARD = "# name\n\n## First\n\nwords\n\n## Second\n\n| a |\n|---|\n| 1 |\n\n## Third\n\nmore words\n"


def test_a_card_that_is_too_long_ends_between_sections_and_says_where_the_rest_is() -> None:
    assert card.shortened(CARD, 5000) == CARD
    for longest in range(70, len(CARD)):
        cut = card.shortened(CARD, longest)
        assert len(cut) <= longest
        assert cut.endswith(f"\n\n{card.MORE}\n")
        kept = cut.removesuffix(f"\n\n{card.MORE}\n")
        assert CARD.startswith(f"{kept}\n\n## ")


def test_slices_are_told_by_the_largest() -> None:
    slices = [
        {"country": name, "rows": rows, "positives": 1, "roc_auc": 0.75, "log_loss": None}
        for rows, name in enumerate(["de", None, "fr"] * 10)
    ]
    table = card._slices(slices).splitlines()
    assert table[0] == "| country | rows | roc_auc | log_loss |"
    assert len(table) == 2 + card.SLICES_NAMED
    assert table[-1] == "| fr | 29 | 0.7500 | undefined |"
    assert card._slices([]) == ""
