"""A worker keeps its lease whatever goes wrong, stops what is no longer its own, and tests itself."""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.judging import hub_of_workers
from cuvee.competition.refusals import Refusal
from cuvee.competition.worker import Abandoned, Worker
from cuvee.errors import PlatformError
from cuvee.progress import Progress, Stoppable
from cuvee.submission.sandbox import Limits
from cuvee.submission.sandbox.watched import watch
from cuvee.submission.scratch import MARK, PREFIX
from cuvee.submission.verdict import Verdict

from .made import verdict

JOB = Job(1, 1, "public", 1, 1, "0" * 64, 0.2)


@dataclass
class Listed:
    """A source with a few jobs, which remembers what it is told."""

    jobs: int = 1
    renewing: Callable[[int], None] = lambda count: None
    finishing: Callable[[], None] = lambda: None
    renewals: list[str] = field(default_factory=list)
    hellos: list[bool] = field(default_factory=list)
    finished: int = 0
    given_up: list[str] = field(default_factory=list)

    def enter(self, fitness: Fitness) -> str:
        self.hellos.append(True)
        return ""

    def leave(self, reason: str) -> None:
        self.hellos.append(False)

    def failed(self, reason: str) -> None:
        self.hellos.append(False)

    def claim(self) -> Job | None:
        self.jobs -= 1
        return JOB if self.jobs >= 0 else None

    def archive(self, job: Job) -> bytes:
        return b""

    def renew(self, job: Job, progress: str) -> None:
        self.renewals.append(progress)
        self.renewing(len(self.renewals))

    def finish(self, job: Job, verdict: Verdict) -> None:
        self.finishing()
        self.finished += 1

    def give_up(self, job: Job, reason: str) -> None:
        self.given_up.append(reason)


def lost(count: int) -> None:
    raise Refusal("lease_lost", "it is another's")


def work(source: Listed, judge: Callable[..., Verdict], self_test: Callable[[], Fitness] = Fitness) -> int:
    return Worker(source, judge, self_test).run(threading.Event(), once=True)


def test_renewing_goes_on_after_every_failure_but_a_lost_lease() -> None:
    def failing(count: int) -> None:
        raise (ValueError("half a character"), Refusal("bad_request", "no text"), PlatformError("away"))[count % 3]

    def slow(archive: Path, folder: Path, purpose: str, progress: Progress) -> Verdict:
        progress.start("half \ud800 of it\x00", 2, "items")
        time.sleep(0.6)
        progress.advance(1)
        return verdict(0.5)

    source = Listed(renewing=failing)
    work(source, slow)
    assert source.finished == 1
    assert len(source.renewals) >= 6
    assert source.renewals[-1].encode()


def test_a_lost_lease_stops_a_judge_that_has_nothing_to_say() -> None:
    stopped = threading.Event()

    def silent(archive: Path, folder: Path, purpose: str, progress: Progress) -> Verdict:
        assert isinstance(progress, Stoppable)
        try:
            while True:
                progress.check()
                time.sleep(0.01)
        except Abandoned:
            stopped.set()
            raise

    source = Listed(renewing=lost)
    work(source, silent)
    assert stopped.is_set()
    assert (source.finished, source.given_up) == (0, [])


@pytest.mark.parametrize("speaks", [False, True])
def test_a_job_ends_soon_after_nobody_wants_it(speaks: bool, tmp_path: Path) -> None:
    started = time.monotonic()

    def hear(line: bytes) -> None:
        if bool(line) is speaks and time.monotonic() - started > 0.3:
            raise Abandoned

    program = f"import time\nwhile True:\n    print('{{}}' * {speaks:d}, flush=True)\n    time.sleep(0.05)"
    limits = Limits(60, 1 << 30, 1 << 30)
    with pytest.raises(Abandoned):
        watch((sys.executable, "-c", program), limits, tmp_path, hear, environment={})
    assert time.monotonic() - started < 5


def test_what_the_last_line_of_a_job_raises_is_not_lost(tmp_path: Path) -> None:
    def hear(line: bytes) -> None:
        if line:
            raise Abandoned

    with pytest.raises(Abandoned):
        watch((sys.executable, "-c", "print('{}')"), Limits(60, 1 << 30, 1 << 30), tmp_path, hear, environment={})


def test_a_verdict_that_the_server_refuses_is_given_up_and_the_worker_tests_itself() -> None:
    def refuse() -> None:
        raise Refusal("bad_request", "this is no verdict")

    source = Listed(jobs=2, finishing=refuse)
    assert work(source, lambda *judged: verdict(0.5)) == 2
    assert source.given_up == ["Refusal: this is no verdict"] * 2
    assert source.hellos == [True, True, True]


def test_a_defect_is_for_the_workers_log_as_a_team_reads_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*judged: object) -> Verdict:
        raise RuntimeError("INSERT INTO tokens\nVALUES ('a secret')")

    source = Listed()
    work(source, broken)
    assert source.given_up == ["RuntimeError: the worker's log tells more"]
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "a secret" in caplog.text


def test_a_worker_that_fails_its_test_after_a_failure_of_ours_takes_no_more() -> None:
    tests = iter([Fitness(), None])

    def once() -> Fitness:
        found = next(tests)
        if found is None:
            raise PlatformError("a model of the competition cannot be judged here")
        return found

    source = Listed(jobs=5)
    errored = replace(verdict(0.5), outcome="errored", reason="infrastructure")
    with pytest.raises(PlatformError, match="takes itself out"):
        work(source, lambda *judged: errored, once)
    assert source.finished == 1
    assert source.hellos == [True, False]


def test_a_worker_removes_at_its_start_what_a_dead_one_has_left(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}of-a-dead-one"
    (left / "work").mkdir(parents=True, mode=0o755)
    (left / MARK).touch()
    kept = tmp_path / "of somebody else"
    kept.mkdir()
    Worker(Listed(jobs=0), lambda *judged: verdict(0.5), dict, tmp_path).run(threading.Event(), once=True)
    assert list(tmp_path.iterdir()) == [kept]


def test_a_worker_that_has_no_folder_to_judge_in_gives_the_run_up(tmp_path: Path) -> None:
    source = Listed(jobs=1)
    Worker(source, lambda *judged: verdict(0.5), dict, tmp_path / "nowhere").run(threading.Event(), once=True)
    assert source.finished == 0
    assert "No such file or directory" in source.given_up[0]


def test_a_worker_tests_itself_again_after_a_while() -> None:
    source = Listed(jobs=3)
    worker = Worker(source, lambda *judged: verdict(0.5), Fitness, seconds_between_tests=0.0)
    assert worker.run(threading.Event(), once=True) == 3
    assert source.hellos.count(True) >= 4


def test_models_of_a_hub_have_a_cache_of_the_workers_own_that_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/somewhere/hub")
    hub = hub_of_workers(5)
    assert (hub.cache_folder, hub.most_bytes) == (Path("/somewhere/cuvee-judged"), 5)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    offline = hub_of_workers(5)
    assert (offline.cache_folder, offline.most_bytes) == (Path("/somewhere/hub"), None), "nothing of a person's goes"
