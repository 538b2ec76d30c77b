"""The cluster file for Ray's autoscaler, held against Ray's own checks and the sweep's words."""

from typing import Any

import pytest
import yaml
from checkouts import ROOT
from ray.autoscaler._private.util import prepare_config, validate_config

from flows.sweep.cluster import SPOT_FIRST


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())


def test_ray_takes_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


@pytest.mark.parametrize("key", ["idle_timeout_minutes", "min_workers"])
def test_ray_would_not_take_a_mistake(cluster: dict[str, Any], key: str) -> None:
    place = cluster if key in cluster else cluster["available_node_types"]["gpu_spot"]
    place[f"{key}_"] = place.pop(key)
    with pytest.raises(Exception, match=f"{key}_"):
        validate_config(cluster)


def test_machines_with_gpus_come_when_needed_and_go_when_idle(cluster: dict[str, Any]) -> None:
    kinds = cluster["available_node_types"]
    workers = {name: kind for name, kind in kinds.items() if name != cluster["head_node_type"]}
    assert {kind["min_workers"] for kind in workers.values()} == {0}
    assert all(kind["resources"]["GPU"] >= 1 for kind in workers.values())
    assert all(
        any(name.startswith("accelerator_type:") for name in kind["resources"])
        for kind in workers.values()
    )
    assert 0 < cluster["idle_timeout_minutes"] <= 30


def test_spot_machines_bear_the_label_that_trials_prefer(cluster: dict[str, Any]) -> None:
    spot = {
        name: kind
        for name, kind in cluster["available_node_types"].items()
        if "InstanceMarketOptions" in kind["node_config"]
    }
    assert spot
    for kind in spot.values():
        assert kind["labels"].items() >= SPOT_FIRST["label_selector"].items()
