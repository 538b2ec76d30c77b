"""What leads a rebuild elsewhere is kept from it, and other packages are named."""

from pathlib import Path

from flows.proof import locked, rebuild

LOCK = """\
# a comment
numpy==2.1.0 \\
    --hash=sha256:00
other-os==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:00
Ruamel.Yaml==0.18 ; python_version >= '3.11' \\
    --hash=sha256:00
torch==2.13.0
"""


def test_nothing_leads_a_stage_elsewhere():
    inherited = {
        "PATH": "/bin", "AWS_ACCESS_KEY_ID": "a", "MLFLOW_TRACKING_URI": "http://here",
        "VERBATIM_CHECKPOINTS": "/kept", "PREFECT_API_URL": "http://here", "PYTHONPATH": "/mine",
        "GIT_DIR": "/repository", "DVC_SITE_CACHE_DIR": "/cache",
    }  # fmt: skip
    found = rebuild.environment(inherited, Path("/proof"))
    assert {"PATH", "AWS_ACCESS_KEY_ID"} <= found.keys()
    assert not found.keys() & (
        inherited.keys() - {"PATH", "AWS_ACCESS_KEY_ID", "DVC_SITE_CACHE_DIR"}
    )
    assert found["DVC_SITE_CACHE_DIR"] == "/proof/dvc/site"
    assert found["OPENLINEAGE_DISABLED"] == "true"


def test_packages_are_held_against_a_lock():
    found = {"numpy": "2.1.0", "ruamel-yaml": "0.18", "torch": "2.13.0+cpu", "more": "1"}
    assert locked.unlike(LOCK, found) == []
    faults = locked.unlike(LOCK, {"numpy": "2.2.0", "torch": "2.13.0"})
    assert faults == [
        "numpy: must be ==2.1.0 (got 2.2.0)",
        "Ruamel.Yaml: must be ==0.18 (got none)",
    ]


def test_this_environment_is_that_of_the_lock():
    lock = Path(__file__).parent.parent / "requirements.lock"
    assert locked.unlike(lock.read_text(), locked.installed()) == []
    assert len(locked.pinned(lock.read_text())) > 100


def test_many_packages_are_counted():
    assert locked.few([str(number) for number in range(9)])[-1] == "and 1 more packages"
