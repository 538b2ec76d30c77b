import re

from claims import CLAIM, edited

from tasks import picture


def drawn(**told) -> list[str]:
    claim = edited(**told)
    text = picture.draw(
        claim.lineage, claim.manifest, commit="a" * 40, model="churn", run_name=claim.run_name
    )
    return text.splitlines()


def ids(lines: list[str]) -> dict[str, str]:
    """Ids of nodes by the first line of their labels."""
    found = (re.match(r'\s+(\w+)\W+"(?:<b>)?(.*?)(?:</b>)?(?:<br/>|")', line) for line in lines)
    return {each[2]: each[1] for each in found if each}


def test_data_leads_through_stages_to_the_model() -> None:
    lines = drawn()
    its = ids(lines)
    assert lines[0] == "flowchart LR"
    edges = {tuple(line.split(" --> ")) for line in map(str.strip, lines) if " --> " in line}
    assert edges == {
        (its["data/lake"], its["train"]),
        (its["data/suites/a.json"], its["train"]),
        (its["train"], its["data/train"]),
        (its["data/train"], its["register"]),
        (its["register"], its["churn"]),
    }
    (stage,) = [line for line in lines if "<b>train</b>" in line]
    assert "code: 3 paths" in stage
    assert "models.trees.max_depth: 3" in stage
    (lake,) = [line for line in lines if '"data/lake<br/>' in line]
    assert "77777777…" in lake
    assert "4 rows of 2 files" in lake


def test_signs_that_mean_something_to_mermaid_are_spelled_out() -> None:
    (stage,) = [line for line in drawn(params={"objective": 'a "b" <c> #1'}) if "objective" in line]
    assert "objective: a #quot;b#quot; #lt;c#gt; #35;1" in stage
    assert CLAIM.lineage.parameters["models.trees.max_depth"] == 3
