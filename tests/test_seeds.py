from tasks import seeds


def test_a_seed_is_the_same_for_ever() -> None:
    assert seeds.derive(1997, "train") == 1_212_917_915


def test_purposes_and_seeds_are_told_apart() -> None:
    drawn = {seeds.derive(seed, purpose) for seed in range(50) for purpose in ("split", "train")}
    assert len(drawn) == 100
    assert all(0 <= seed < 2**31 for seed in drawn)
