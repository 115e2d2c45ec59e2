"""The score that every worker's test must find: recorded by the first, compared on every machine."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from competition.made import Clock, key_of, tiny_competition
from competition.serving import Served, beside, serve
from cuvee.competition import audit
from cuvee.competition.beside import DatabaseSource
from cuvee.competition.client import Client, ServerSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.worker import Source, Worker
from cuvee.errors import PlatformError
from cuvee.submission.expected import ControlScore, disagreement

RIGHT = (1.0,) * 12 + (0.0,) * 4
SOUND = ControlScore("models/base", {"capitals": RIGHT, "sums": RIGHT}, "a" * 64, {"torch": "2.13.0"})


def otherwise(turned: int) -> ControlScore:
    """Return what a machine finds on which some of 16 answers to one task turn out otherwise."""
    items = {"capitals": RIGHT, "sums": tuple(1 - score for score in RIGHT[:turned]) + RIGHT[turned:]}
    return replace(SOUND, items=items, versions={"torch": "2.14.0"})


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


@pytest.fixture(params=["beside", "remote"])
def source(request: pytest.FixtureRequest, everywhere: Served) -> Source:
    """A second worker, far-away."""
    if request.param == "beside":
        return near(everywhere, "far-away")
    client = Client("http://testserver", everywhere.tokens["worker"], http=everywhere.http)
    return ServerSource(client, everywhere.service.competition.digest, key_of("far-away"))


def near(served: Served, name: str = "first") -> DatabaseSource:
    return beside(served.service, name)


def test_the_first_worker_records_it_with_its_versions(everywhere: Served) -> None:
    assert everywhere.ask("organiser", "GET", "/api/organiser/expected").json() is None
    assert near(everywhere).enter(Fitness(control=SOUND)) == ""
    recorded = everywhere.ask("organiser", "GET", "/api/organiser/expected").json()
    assert (recorded["model"], recorded["scores"]) == ("models/base", {"capitals": 0.75, "sums": 0.75})
    assert (recorded["worker"], recorded["versions"]) == ("first", {"torch": "2.13.0"})
    with everywhere.service.database.read() as connection:
        assert [line.actor for line in audit.lines(connection) if line.action == "expectation recorded"] == ["first"]


def test_a_worker_whose_first_test_is_wrong_is_caught(everywhere: Served, source: Source) -> None:
    near(everywhere).enter(Fitness(control=SOUND))
    number = everywhere.send()

    def never(*_: object) -> object:
        raise AssertionError("it must not judge")

    worker = Worker(source, never, lambda: Fitness(control=otherwise(5)))  # type: ignore[arg-type]  # a judge that never judges
    with pytest.raises(PlatformError, match=r"'models/base' scores 0.438 on 'sums' here, and 0.750 is expected") as out:
        worker._greet()
    assert "expected by first with torch 2.13.0, found with torch 2.14.0" in out.value.message
    (alarm,) = everywhere.ask("organiser", "GET", "/api/organiser/alarms").json()
    assert (alarm["worker"], alarm["queued"], alarm["suspect"]) == ("far-away", 0, 0)
    workers = {each["name"]: each for each in everywhere.ask("organiser", "GET", "/api/organiser/workers").json()}
    assert (workers["first"]["ready"], workers["far-away"]["ready"]) == (True, False)
    assert everywhere.ask("team", "GET", f"/api/submissions/{number}").json()["state"] == "queued"


def test_another_processor_may_turn_two_answers_of_sixteen(everywhere: Served, source: Source) -> None:
    near(everywhere).enter(Fitness(control=SOUND))
    assert source.enter(Fitness(control=otherwise(2))) == ""
    assert "at most 12.5% are allowed" in source.enter(Fitness(control=otherwise(3)))


def test_a_worker_whose_test_judges_nothing_is_not_taken(everywhere: Served, source: Source) -> None:
    near(everywhere).enter(Fitness(control=SOUND))
    assert "judged no model" in source.enter(Fitness())


def test_a_worker_that_drifts_loses_what_it_judged(everywhere: Served, source: Source) -> None:
    number = everywhere.send()
    everywhere.judge_all(name="far-away")
    near(everywhere).enter(Fitness(control=SOUND))
    assert source.enter(Fitness(control=otherwise(5))) != ""
    assert everywhere.ask("team", "GET", f"/api/submissions/{number}").json()["state"] == "queued"
    assert everywhere.ask("organiser", "GET", "/api/organiser/alarms").json()[0]["queued"] == 1


def test_the_organiser_forgets_it_and_the_next_worker_records_it_anew(everywhere: Served, source: Source) -> None:
    path = "/api/organiser/expected/forget"
    assert everywhere.ask("organiser", "POST", path).status_code == 409
    near(everywhere).enter(Fitness(control=otherwise(9)))
    assert source.enter(Fitness(control=SOUND)) != ""
    assert "Forget the expected score" in everywhere.page("organiser", "/organiser").text
    assert everywhere.ask("organiser", "POST", path).json() is None
    assert source.enter(Fitness(control=SOUND)) == ""
    assert near(everywhere).enter(Fitness(control=otherwise(9))) != ""


def test_another_version_of_the_rules_has_another_expectation(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition()):
        near(served).enter(Fitness(control=SOUND))
        newer = replace(served.service, competition=tiny_competition(per_day=3))
        assert beside(newer, "b").enter(Fitness(control=otherwise(9))) == ""
        assert beside(newer, "c").enter(Fitness(control=SOUND)) != ""


@given(st.lists(st.floats(0, 1), min_size=1, max_size=16), st.data())
def test_the_tolerance_is_of_items_and_not_of_averages(scores: list[float], data: st.DataObject) -> None:
    """Wrong answers that happen to be as often right as the expected ones are found."""
    expected = replace(SOUND, items={"sums": tuple(scores)})
    assert disagreement(expected, expected) == ""
    turned = replace(SOUND, items={"sums": tuple(1 - score for score in scores)})
    distance = sum(abs(1 - 2 * score) for score in scores) / len(scores)
    assert bool(disagreement(turned, expected)) == (distance > 0.125)
