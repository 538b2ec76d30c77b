"""The doctor on stages that depend on one thing each, and on one that depends on nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import ROOT
from dying import wait_until

STAGES = """\
stages:
  stable:
    cmd: python new.py given out/stable ${size}
    deps: [given, new.py]
    outs: [out/stable]
  zone:
    cmd: date -d @900000000 > out/zone
    outs: [out/zone]
  hashed:
    cmd: python -c "print(*set('abcdefghijklmnop'))" > out/hashed
    deps: [out/stable]
    outs: [out/hashed]
  clock:
    cmd: date +%s > out/clock
    outs: [out/clock]
  listed:
    cmd: python listed.py given > out/listed
    deps: [given, listed.py]
    outs: [out/listed]
  placed:
    cmd: pwd > out/placed
    outs: [out/placed]
  threads:
    cmd:
      - mkdir -p out/threads
      - printf '{"some":1,"count":%s}' $OMP_NUM_THREADS > out/threads/found.json
    outs: [out/threads]
  picky:
    cmd: test "$TZ" = UTC && echo fine > out/picky
    outs: [out/picky]
  both:
    cmd: test "$TZ-$PYTHONHASHSEED" = Pacific/Kiritimati-1; echo $? > out/both
    outs: [out/both]
"""
NEW = """\
import pathlib, sys
given, made, size = sys.argv[1:]
texts = [path.read_text() for path in sorted(pathlib.Path(given).iterdir())]
pathlib.Path(made).write_text("".join(texts) * int(size))
"""
LISTED = "import os, sys; print(*next(os.walk(sys.argv[1]))[2])"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, environment) -> Path:
    root = tmp_path_factory.mktemp("doctor") / "project"
    (root / "given").mkdir(parents=True)
    files = {"dvc.yaml": STAGES, "params.yaml": "size: 2\n", "listed.py": LISTED}
    files |= {
        ".gitignore": "/out/*\n/given\n",
        "out/.gitignore": "",
        "given/a": "1",
        "given/b": "2",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    for words in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["git", "add", "--force", "out/.gitignore"],
        ["git", "add", "--all"],
        ["git", *author, "commit", "-qm", "first"],
    ):
        subprocess.run(words, cwd=root, env=environment, check=True)
    (root / "new.py").write_text(NEW)  # git does not know it yet
    return root


def command(*names: str) -> list[str]:
    return [sys.executable, "-m", "flows", "doctor", *names]


def surroundings(environment: dict[str, str], temporary: Path) -> dict[str, str]:
    temporary.mkdir(exist_ok=True)
    return {**environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "COLUMNS": "200"}


def doctor(project: Path, environment, *names: str) -> tuple[int, str]:
    done = subprocess.run(
        command(*names),
        cwd=project,
        env=surroundings(environment, project.parent / "temporary"),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def examined(project: Path, environment) -> tuple[int, str]:
    return doctor(project, environment)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("zone", "time zone (Pacific/Kiritimati instead of UTC): out/zone: line 1: '"),
        ("hashed", "hash seed (PYTHONHASHSEED 1 instead of 0): out/hashed: line 1: '"),
        ("clock", "differs from run to run: out/clock: line 1: '"),
        ("listed", "order of files (backwards instead of by name): out/listed: line 1: 'b a' inst"),
        ("placed", "folder (another, deeper one): out/placed: line 1: …'"),
        ("threads", "threads (1 instead of "),
        ("picky", "time zone (Pacific/Kiritimati instead of UTC): fails: ended with status 1"),
        ("both", "all conditions together, and none alone: out/both: line 1: '0' instead of '1'"),
    ],
)
def test_each_dependence_is_named(examined: tuple[int, str], stage: str, reason: str):
    status, told = examined
    assert status == 1
    (line,) = (line for line in told.splitlines() if line.startswith(f"{stage}: not stable: "))
    assert reason in line, told


def test_a_key_that_differs_is_named(examined: tuple[int, str]):
    assert ": out/threads/found.json: count: 1 instead of " in examined[1]


def test_a_stable_stage_runs_twice_and_the_checkout_stays_as_it_was(
    examined: tuple[int, str], project: Path
):
    runs = [line for line in examined[1].splitlines() if line.startswith("stable ")]
    assert len(runs) == 2, examined[1]
    assert "stable: not stable" not in examined[1]
    assert not list((project / "out").glob("[a-z]*"))
    assert not (project / "dvc.lock").exists()
    assert not list((project.parent / "temporary").iterdir())


LISTING = """\
import glob, os, pathlib, sys
here, other = sys.argv[1:]
with os.scandir(here) as entries:
    found = [[entry.name for entry in entries], os.listdir(here), next(os.walk(here))[2]]
found += [[each.name for each in pathlib.Path(here).glob("*")], glob.glob("*", root_dir=here)]
assert all(names == ["c", "b", "a"] for names in found), found
assert os.listdir(other) == [entry.name for entry in os.scandir(other)]
os.chdir(here)
with os.scandir(None) as entries:
    assert [entry.name for entry in entries] == os.listdir(None) == ["c", "b", "a"]
print(os.environ["HIDDEN"])
"""


def test_python_lists_one_folder_backwards_and_hides_nothing(tmp_path: Path, environment):
    for name in ("here/a", "here/b", "here/c", "other/a", "other/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['HIDDEN'] = 'seen'")
    settings = {
        "PYTHONPATH": f"{ROOT}/flows/doctor/listing:{tmp_path}",
        "VERBATIM_LISTED": "backwards",
        "VERBATIM_LISTED_BELOW": str(tmp_path / "here"),
    }
    done = subprocess.run(
        [sys.executable, "-c", LISTING, tmp_path / "here", tmp_path / "other"],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("seen\n", "")


def test_only_what_is_named_is_examined(project: Path, environment):
    status, told = doctor(project, environment, "hashed")
    assert status == 1
    runs = [line.split()[0] for line in told.splitlines() if "as usual  " in line]
    assert runs == ["stable", "hashed"], told
    assert "│ stable" not in told


def test_unknown_stages_are_named(project: Path, environment):
    status, told = doctor(project, environment, "stable", "trian", "zoen")
    assert status == 1
    assert "ParamsError: doctor: must be given stages of dvc.yaml (got trian, zoen)" in told
    assert "next: name some of stable, zone" in told


@pytest.fixture
def changed(project: Path):
    """Writes another dvc.yaml for one test."""
    yield (project / "dvc.yaml").write_text
    (project / "dvc.yaml").write_text(STAGES)


def test_what_cannot_be_examined_is_told(project: Path, environment, changed, tmp_path: Path):
    stage = "stages: {{x: {{cmd: {}, deps: {}, outs: [{}], params: [size]}}}}"
    changed(stage.format("'false'", "[given]", "out/x"))
    status, told = doctor(project, environment)
    assert status == 1
    assert "x: fails as it stands, so nothing can be said of it: ended with status 1" in told
    changed(stage.format("'true'", "[gone]", "out/x"))
    assert (
        "StageError: x: gone must be there\nnext: dvc pull gone" in doctor(project, environment)[1]
    )
    changed(stage.format("'true'", "[given]", f"{{{tmp_path}/x: {{cache: false}}}}"))
    assert "x: must write within the checkout only" in doctor(project, environment)[1]


def test_ctrl_c_leaves_nothing(project: Path, environment, changed, tmp_path: Path):
    slow = f"touch {tmp_path}/begun; sleep 300"
    changed(f"stages: {{slow: {{cmd: {slow}, outs: [out/slow], params: [size]}}}}")
    temporary = tmp_path / "temporary"
    process = subprocess.Popen(
        command(),
        cwd=project,
        env=surroundings(environment, temporary),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: (tmp_path / "begun").exists() or process.poll() is not None)
    assert list(temporary.iterdir())
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert not list(temporary.iterdir())
