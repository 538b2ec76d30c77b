from datetime import date

from tasks import alarm
from tasks.monitoring import Finding

JUNE, JULY = date(1998, 6, 1), date(1998, 7, 1)


def finding(name: str, observed: float | None) -> Finding:
    return Finding(name, 0.5, observed, observed is not None and observed > 0.5, "why")


def test_what_crosses_is_news_once():
    found = [finding("a", 0.9), finding("b", 0.1)]
    told = alarm.updated({}, found, JUNE)
    assert [each.name for each in alarm.news({}, found)] == ["a"]
    assert told == {"a": "1998-06-01"}
    assert alarm.news(told, found) == []
    assert alarm.updated(told, found, JULY) == told


def test_what_is_quiet_again_is_told_anew():
    told = alarm.updated({"a": "1998-06-01", "b": "1998-06-01"}, [finding("a", 0.2)], JULY)
    assert told == {"b": "1998-06-01"}
    assert alarm.updated(told, [finding("a", 0.8)], JULY)["a"] == "1998-07-01"


def test_what_cannot_be_told_is_not_quiet():
    told = {"a": "1998-06-01"}
    assert alarm.updated(told, [finding("a", None)], JULY) == told


def test_a_look_back_forgets_nothing():
    told = {"a": "1998-07-01"}
    assert alarm.updated(told, [finding("a", 0.1)], JUNE) == told


def test_tag_is_read_as_it_was_written():
    assert alarm.read(alarm.write({"a": "1998-06-01"})) == {"a": "1998-06-01"}
    assert alarm.read(None) == {}
