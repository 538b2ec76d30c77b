"""Our walk of DVC's graph against `dvc repro` itself, in a small project with real commands."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from flows.graph import Graph, Outcome
from flows.process import CommandError
from tasks import lineage
from tasks.errors import ParamsError, StageError

PIPELINE = """\
stages:
  draw:
    cmd: python draw.py ${size} out/draw
    deps: [draw.py, given.txt]
    params: [size]
    outs: [out/draw]
  count:
    cmd: python count.py out/draw out/count
    deps: [count.py, out/draw]
    outs: [out/count]
    meta: {retries: 2, guards: true}
"""
DRAW = """\
import sys, pathlib
out = pathlib.Path(sys.argv[2]); out.mkdir(parents=True)
(out / "text").write_text(pathlib.Path("given.txt").read_text() * int(sys.argv[1]))
print("drawn")
"""
COUNT = """\
import sys, pathlib
out = pathlib.Path(sys.argv[2]); out.mkdir(parents=True)
text = (pathlib.Path(sys.argv[1]) / "text").read_text()
(out / "length").write_text(str(len(text)))
if "bad" in text:
    print("DataValidationError: the text must be good\\nnext: mend given.txt")
    sys.exit(65)
"""


@pytest.fixture
def project(tmp_path: Path, environment, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", environment["PATH"])
    files = {"dvc.yaml": PIPELINE, "draw.py": DRAW, "count.py": COUNT, "given.txt": "abc"}
    for name, text in {**files, "params.yaml": "size: 2\n"}.items():
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    return tmp_path


def walk(**options) -> tuple[list[Outcome], list[str]]:
    lines: list[str] = []
    graph = Graph()
    done = [graph.bring_up_to_date(step, lines.append, **options) for step in graph.steps]
    return [each.outcome for each in done], lines


def repro(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["dvc", "repro", *arguments], capture_output=True, text=True, check=False)


def test_leaves_the_lock_that_dvc_leaves(project: Path):
    outcomes, lines = walk()
    assert outcomes == [Outcome.RAN, Outcome.RAN]
    assert lines == ["out of date: not in dvc.lock", "drawn", "out of date: not in dvc.lock"]
    ours = (project / "dvc.lock").read_text()
    (project / "dvc.lock").unlink()
    assert "Running stage 'draw'" in repro("--force").stdout
    assert (project / "dvc.lock").read_text() == ours


def test_notes_what_dvc_locks_and_caches_nothing(project: Path):
    repro()
    known = (project / "dvc.lock").read_text()
    (project / "dvc.lock").unlink()
    shutil.rmtree(project / ".dvc/cache/files")
    graph = Graph()
    assert [stage.addressing for stage in graph.stages(["draw"])] == ["draw"]
    for stage in graph.stages():
        graph.note(stage.addressing)
    assert (project / "dvc.lock").read_text() == known
    assert not list((project / ".dvc/cache").rglob("files/md5/*/*"))


def test_finds_unchanged_what_dvc_made(project: Path):
    repro()
    assert walk()[0] == [Outcome.UNCHANGED, Outcome.UNCHANGED]


def test_dvc_finds_unchanged_what_we_made(project: Path):
    walk()
    assert "Data and pipelines are up to date" in repro().stdout
    status = subprocess.run(["dvc", "status"], capture_output=True, text=True, check=True)
    assert "up to date" in status.stdout


def test_restores_from_the_run_cache(project: Path):
    walk()
    (project / "given.txt").write_text("other")
    walk()
    (project / "given.txt").write_text("abc")
    assert walk() == (
        [Outcome.RESTORED, Outcome.RESTORED],
        ["out of date: given.txt modified", "out of date: out/draw modified"],
    )
    assert (project / "out/draw/text").read_text() == "abcabc"


def test_restores_deleted_outputs(project: Path):
    walk()
    (project / "out/draw/text").unlink()
    assert walk()[0] == [Outcome.RESTORED, Outcome.UNCHANGED]


def test_runs_all_when_forced(project: Path):
    walk()
    forced = "forced: what is known of it does not count"
    assert walk(force=True) == ([Outcome.RAN, Outcome.RAN], [forced, "drawn", forced])


def test_says_first_why_a_stage_is_not_up_to_date(project: Path):
    walk()
    assert walk()[1] == []
    (project / "params.yaml").write_text("size: 3\n")
    (project / "given.txt").write_text("ab")
    assert walk() == (
        [Outcome.RAN, Outcome.RAN],
        [
            "out of date: given.txt modified, params.yaml:size modified, changed command",
            "drawn",
            "out of date: out/draw modified",
        ],
    )
    shutil.rmtree(project / "out/count")
    assert walk()[1] == ["out of date: out/count deleted"]
    shutil.rmtree(project / "out")
    shutil.rmtree(project / ".dvc/cache")
    assert walk()[1][0] == "out of date: out/draw not in cache"
    pipeline = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(pipeline.replace("cmd: python count", "cmd: python -s count"))
    assert walk()[1] == ["out of date: changed command"]


def test_a_changed_parameter_reruns_only_what_it_reaches(project: Path):
    walk()
    (project / "count.py").write_text(COUNT + "\n# said better\n")
    assert walk()[0] == [Outcome.UNCHANGED, Outcome.RAN]
    (project / "params.yaml").write_text("size: 3\n")
    assert walk()[0] == [Outcome.RAN, Outcome.RAN]


def test_a_failed_command_tells_its_error(project: Path):
    (project / "given.txt").write_text("bad")
    with pytest.raises(CommandError) as caught:
        walk()
    expected = "count: DataValidationError: the text must be good\nnext: mend given.txt"
    assert str(caught.value) == expected
    assert (caught.value.status, caught.value.killed) == (65, False)


def test_a_killed_command_is_told_apart(project: Path):
    (project / "count.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(CommandError, match="killed by SIGKILL") as caught:
        walk()
    assert caught.value.killed


def test_put_back_after_bad_data(project: Path):
    walk()
    lock = (project / "dvc.lock").read_bytes()
    (project / "given.txt").write_text("bad")
    with pytest.raises(CommandError):
        walk()
    assert (project / "dvc.lock").read_bytes() != lock
    Graph().put_back(lock, ["draw", "count"])
    assert (project / "dvc.lock").read_bytes() == lock
    assert (project / "out/draw/text").read_text() == "abcabc"
    assert (project / "out/count/length").read_text() == "6"
    assert (project / ".verbatim/failed/count/length").read_text() == "6"


def test_put_back_in_a_fresh_clone(project: Path):
    """Where nothing was ever made, the committed lock comes back and nothing bad stays."""
    walk()
    lock = (project / "dvc.lock").read_bytes()
    shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "out")
    (project / "given.txt").write_text("bad")
    with pytest.raises(CommandError):
        walk()
    Graph().put_back(lock, ["draw", "count"])
    assert (project / "dvc.lock").read_bytes() == lock
    assert not (project / "out/draw/text").exists()


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("raise SystemExit(255)", "ended with status 255"),
        ("print('one'); print('KeyError: two'); print('three'); raise SystemExit(1)", "KeyError"),
        ("print('DataValidationError: head'); print('line\\n' * 500); raise SystemExit(1)", "head"),
        ("import os; os.kill(os.getpid(), 15)", "killed by SIGTERM"),
    ],
)
def test_how_a_command_ended(project: Path, ending: str, words: str):
    (project / "draw.py").write_text(ending)
    with pytest.raises(CommandError, match=words):
        walk()


def test_removed_stages_are_not_part_of_the_lineage(project: Path):
    walk()
    text = (project / "dvc.yaml").read_text()
    draw = text[text.index("  draw:") : text.index("  count:")]
    (project / "dvc.yaml").write_text(text.replace(draw, ""))
    assert Graph().lineage().key == lineage.read().key


@pytest.mark.parametrize(
    "value", ["0.00001", "1e-05", "1e16", '"yes"', "yes", "[on, off]", '"12:30"', "null", "0o17"]
)
def test_lineage_is_the_same_for_every_kind_of_value(project: Path, value: str):
    (project / "params.yaml").write_text(f"size: 2\nother: {value}\n")
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("params: [size]", "params: [size, other]"))
    foreseen = Graph().lineage().key
    walk()
    assert lineage.read().key == foreseen


def test_meta_is_read_from_dvc_yaml(project: Path):
    draw, count = Graph().steps
    assert (draw.retries, draw.guards) == (0, False)
    assert (count.retries, count.guards) == (2, True)


def test_lineage_is_foreseen(project: Path):
    foreseen = Graph().lineage()
    walk()
    assert foreseen.key == lineage.read().key
    assert lineage.read().parameters == {"size": 2}
    assert set(lineage.read().sources) == {"draw.py", "given.txt", "count.py"}
    assert set(lineage.read().outputs) == {"out/draw", "out/count"}


def test_foreseeing_hides_no_change(project: Path):
    walk()
    (project / "given.txt").write_text("other")
    (project / "params.yaml").write_text("size: 3\n")
    graph = Graph()
    graph.lineage()
    assert graph.bring_up_to_date(graph.steps[0], print).ran


def test_a_second_try_does_not_take_the_old_result_for_the_new(project: Path):
    walk()
    (project / "given.txt").write_text("other")
    (project / "draw.py").write_text("raise SystemExit(75)")
    graph = Graph()
    for _ in range(2):
        with pytest.raises(CommandError):
            graph.bring_up_to_date(graph.steps[0], print)


@pytest.mark.parametrize("changed", ["given.txt", "count.py", "params.yaml", "dvc.yaml"])
def test_lineage_key_changes_with_every_cause(project: Path, changed: str):
    before = Graph().lineage().key
    text = (project / changed).read_text()
    edits = {"params.yaml": "size: 5\n", "dvc.yaml": text.replace("python draw", "python -B draw")}
    (project / changed).write_text(edits.get(changed, text + "\n"))
    assert Graph().lineage().key != before


def test_a_missing_input_is_named(project: Path):
    (project / "given.txt").unlink()
    with pytest.raises(StageError, match=r"draw: .*given\.txt[\s\S]*next: check"):
        Graph().lineage()


def test_unresolved_parameter_is_a_params_error(project: Path):
    (project / "params.yaml").write_text("sise: 2\n")
    with pytest.raises(ParamsError, match="size"):
        Graph()


def test_interrupting_the_walk_ends_the_command(project: Path, environment):
    """Nothing a stage started goes on writing after the flow is gone."""
    (project / "draw.py").write_text(
        "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    )
    program = "from flows.graph import Graph; g = Graph(); g.bring_up_to_date(g.steps[0], print)"
    root = str(Path(__file__).parent.parent)
    process = subprocess.Popen(
        ["python", "-c", program],
        env={**environment, "PYTHONPATH": root},
        stderr=subprocess.DEVNULL,
    )
    child = int(_eventually((project / "pid").read_text))
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    psutil.wait_procs([orphan for orphan in psutil.process_iter() if orphan.pid == child], 10)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def _eventually(read) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if text := read():
                return text
        except FileNotFoundError:
            pass
        time.sleep(0.05)
    raise AssertionError("nothing was written")
