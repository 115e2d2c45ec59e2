"""A machine goes bad while it judges: nobody is blamed, and all that it has judged since its last passed test is taken
back. The real judge, queue and pages; the sandbox is scripted, and so is the machine's fault.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from competition.made import NOON, Clock, key_of
from competition.serving import Served, beside, serve
from cuvee.competition.client import Client, ServerSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.judging import Bench
from cuvee.competition.worker import Source, Worker
from cuvee.errors import PlatformError
from cuvee.progress import Progress
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.template import new_competition
from cuvee.submission.verdict import Verdict
from submission.conftest import AVERAGE, packed
from submission.scripted import FAULTS, Fault, Scripted

MINUTE = timedelta(minutes=1)
SENT = 4


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    folder = tmp_path_factory.mktemp("bad-host") / "family"
    new_competition(folder, "a secret of the tests", now=NOON, items=8)
    return load_competition(folder)


@pytest.fixture
def opened(database: Database, clock: Clock, family: Competition, tmp_path: Path) -> Iterator[Served]:
    """The family's competition with some submissions of a team."""
    for served in serve(database, clock, family):
        send_some(served, tmp_path)
        yield served


def send_some(served: Served, folder: Path) -> None:
    for number in range(SENT):
        content = packed(folder, served.service.competition, AVERAGE, name=f"try-{number}").read_bytes()
        assert served.ask("team", "POST", "/api/submissions", content=content).status_code == 201


@pytest.fixture(params=["beside", "remote"])
def source(request: pytest.FixtureRequest, opened: Served) -> Source:
    """A worker's way to the queue, called far-away."""
    if request.param == "beside":
        return beside(opened.service, "far-away")
    client = Client("http://testserver", opened.tokens["worker"], http=opened.http)
    return ServerSource(client, opened.service.competition.digest, key_of("far-away"))


class FailsAfter:
    """The real judge on a machine that gets a fault after it has judged some runs."""

    def __init__(self, bench: Bench, sandbox: Scripted, runs: int, fault: Fault) -> None:
        self.bench, self.sandbox, self.runs, self.fault = bench, sandbox, runs, fault

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        if self.runs == 0:
            self.sandbox.fault = self.fault
        self.runs -= 1
        return self.bench(archive, workdir, purpose, progress)


def work_until_out(source: Source, family: Competition, fault: Fault) -> str:
    """Judge two runs well, let the machine fail, and return what the worker says as it takes itself out."""
    sandbox = Scripted(family.folder / "models/sort")
    bench = Bench(family, sandbox=sandbox)
    worker = Worker(source, FailsAfter(bench, sandbox, 2, fault), bench.self_test)
    with pytest.raises(PlatformError, match="takes itself out") as out:
        worker.run(threading.Event(), once=True)
    return out.value.message


def states(served: Served) -> list[str]:
    return sorted(str(each["state"]) for each in sent(served))


def sent(served: Served) -> list[dict[str, object]]:
    listed = served.ask("team", "GET", "/api/submissions").json()
    return [served.ask("team", "GET", f"/api/submissions/{each['id']}").json() for each in listed]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "otherwise" not in fault])
def test_a_bad_host_blames_nobody(
    sqlite: Database, clock: Clock, family: Competition, fault: Fault, tmp_path: Path
) -> None:
    for served in serve(sqlite, clock, family):
        send_some(served, tmp_path)
        source = beside(served.service, "far-away")
        work_until_out(source, family, fault)
        assert states(served) == ["queued", "queued", "suspect", "suspect"]


def test_the_organiser_has_the_alarm_at_once(opened: Served, source: Source, family: Competition) -> None:
    went_bad = opened.clock()
    work_until_out(source, family, "a library that crashes")
    assert states(opened) == ["queued", "queued", "suspect", "suspect"]
    assert opened.ask("team", "GET", "/api/quota").json()["used_total"] == SENT - 2
    (alarm,) = opened.ask("organiser", "GET", "/api/organiser/alarms").json()
    assert (alarm["worker"], alarm["suspect"], alarm["waiting"]) == ("far-away", 2, 2)
    assert opened.clock() - went_bad < MINUTE
    page = opened.page("organiser", "/organiser").text
    assert "The worker far-away failed its own test" in page
    assert "Runs taken back, with their quota: 2." in page
    assert 'hx-trigger="every 15s"' in page, "an open page shows the next alarm within a minute"


def test_another_worker_judges_what_a_bad_host_has_judged(opened: Served, source: Source, family: Competition) -> None:
    other = beside(opened.service, "other")
    other.enter(Fitness())
    work_until_out(source, family, "a library that crashes")
    assert set(states(opened)) == {"queued"}
    opened.clock.advance(minutes=1)
    bench = Bench(family, sandbox=Scripted(family.folder / "models/sort"))
    assert Worker(other, bench, bench.self_test).run(threading.Event(), once=True) == SENT
    assert set(states(opened)) == {"scored"}
    assert sum(each["given_back"] is True for each in sent(opened)) == 2


def test_answers_that_change_are_found_by_the_hourly_test(opened: Served, source: Source, family: Competition) -> None:
    """Nothing fails on such a machine: every score is wrong, and the test of the hour says so."""
    sandbox = Scripted(family.folder / "models/sort")
    bench = Bench(family, sandbox=sandbox)
    worker = Worker(source, FailsAfter(bench, sandbox, 0, "a library that answers otherwise"), bench.self_test)
    tested = worker.self_test()
    source.enter(tested)
    for _ in range(SENT):
        worker._work(claimed(source))
    assert set(states(opened)) == {"scored"}
    with pytest.raises(PlatformError, match="answers otherwise"):
        worker._greet()
    assert set(states(opened)) == {"suspect"}
    assert all(each["score"] is None for each in sent(opened))
    assert opened.ask(None, "GET", "/api/board").json()["places"] == []


def claimed(source: Source) -> Job:
    job = source.claim()
    assert job is not None
    return job


def test_a_machine_that_cannot_even_make_a_folder_takes_itself_out(
    opened: Served, source: Source, family: Competition, tmp_path: Path
) -> None:
    bench = Bench(family, sandbox=Scripted(family.folder / "models/sort"))

    def test() -> object:
        raise OSError(28, "No space left on device")

    tests: Iterator[Callable[[], object]] = iter([bench.self_test, test])
    worker = Worker(source, bench, lambda: next(tests)(), scratch=tmp_path / "is not there")  # type: ignore[arg-type, return-value]  # the second never returns
    with pytest.raises(PlatformError, match=r"OSError: .*No space left on device"):
        worker.run(threading.Event(), once=True)
    assert set(states(opened)) == {"queued"}
    assert len(opened.ask("organiser", "GET", "/api/organiser/alarms").json()) == 1
