"""Prefect's server on SQLite, when several people click at the same moment."""

from concurrent.futures import ThreadPoolExecutor

from systems import ask

CLICKS, PEOPLE = 48, 8


def test_no_click_is_lost(prefect: dict[str, str]):
    api = prefect["PREFECT_API_URL"]
    _, flow = ask(f"{api}/flows/", {"name": "clicked"})
    _, deployment = ask(f"{api}/deployments/", {"name": "often", "flow_id": flow["id"]})
    url = f"{api}/deployments/{deployment['id']}/create_flow_run"

    def click(_number: int) -> tuple[int, int]:
        status, run = ask(url, {"state": {"type": "SCHEDULED"}})
        state = {"state": {"type": "CANCELLED"}}
        return status, ask(f"{api}/flow_runs/{run['id']}/set_state", state)[0]

    with ThreadPoolExecutor(PEOPLE) as people:
        assert set(people.map(click, range(CLICKS))) == {(201, 201)}
