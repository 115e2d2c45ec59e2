"""The queue, on both databases: who may take a run, what a lost worker costs, what is written twice."""

import ast
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

import cuvee.competition
from competition.made import ORGANISER, Clock, fitted, key_of, signature_of, tiny_competition, verdict
from competition.serving import archive
from cuvee.competition import final, queue, results, submissions
from cuvee.competition.actors import Actor
from cuvee.competition.database import Database
from cuvee.competition.inbox import submission_digest
from cuvee.competition.limits import Limits
from cuvee.competition.quotas import quota
from cuvee.competition.refusals import Refusal
from cuvee.competition.runs import run_of
from cuvee.competition.service import Service
from cuvee.competition.states import Role, State
from cuvee.competition.tables import archives, moves, public_results, runs
from cuvee.competition.teams import new_team
from cuvee.competition.worker import RENEWALS_PER_LEASE
from cuvee.competition.worker_keys import register
from cuvee.submission.sign import public_key
from cuvee.submission.verdict import Verdict

LIMITS = Limits()
ALICE, BOB = Actor(Role.WORKER, "alice"), Actor(Role.WORKER, "bob")
COMPETITION = tiny_competition()


def team(database: Database, clock: Clock, name: str = "Vintners") -> Actor:
    with database.write() as connection:
        number, _ = new_team(connection, ORGANISER, name, clock())
    return Actor(Role.TEAM, name, number)


def send(database: Database, by: Actor, clock: Clock, key: str = "a") -> int:
    received = submissions.Received(archive(f"try {key}"), "recipe", ["one", "two"], f"try {key}", key)
    with database.write() as connection:
        return submissions.receive(connection, by, received, COMPETITION, LIMITS, clock())


def claim(database: Database, worker: Actor, clock: Clock) -> queue.Job | None:
    with database.write() as connection:
        return queue.claim(connection, worker, LIMITS, clock())


def finish(database: Database, worker: Actor, job: queue.Job, clock: Clock, skill: float = 0.6) -> State:
    verdict = said(database, job, skill)
    with database.write() as connection:
        register(connection, worker, public_key(key_of(worker.name)), clock())
    signature = signature_of(verdict, job, worker.name)
    return results.finish(service(database, clock), worker, job.run_id, job.fence, verdict, signature)


def service(database: Database, clock: Clock) -> Service:
    return Service(database, COMPETITION, LIMITS, clock)


def said(database: Database, job: queue.Job, skill: float = 0.6) -> Verdict:
    """Make the verdict of a right judge."""
    with database.read() as connection:
        content = connection.execute(sa.select(archives.c.content).where(archives.c.digest == job.archive_digest))
        digest = submission_digest(content.scalar_one())
    return fitted(verdict(skill), digest, job.purpose, COMPETITION)


def state(database: Database, submission_id: int) -> State:
    with database.read() as connection:
        return State(run_of(connection, submission_id).state)


def used(database: Database, by: Actor, clock: Clock) -> int:
    assert by.team_id is not None
    with database.read() as connection:
        return quota(connection, by.team_id, COMPETITION.phases[0], clock()).used_total


def test_a_submission_is_claimed_judged_and_scored(database: Database, clock: Clock) -> None:
    number = send(database, team(database, clock), clock)
    job = claim(database, ALICE, clock)
    assert job is not None
    assert (job.submission_id, job.attempt, job.fence) == (number, 1, 1)
    assert claim(database, BOB, clock) is None
    assert finish(database, ALICE, job, clock) is State.SCORED
    assert state(database, number) is State.SCORED


def test_two_workers_that_race_take_different_runs(database: Database, clock: Clock) -> None:
    by = team(database, clock)
    numbers = {send(database, by, clock, str(nth)) for nth in range(12)}
    taken: list[int] = []
    together = threading.Barrier(4)

    def work(worker: Actor) -> None:
        together.wait()
        while (job := claim(database, worker, clock)) is not None:
            taken.append(job.submission_id)

    threads = [threading.Thread(target=work, args=(Actor(Role.WORKER, f"w{nth}"),)) for nth in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(numbers)


def test_a_lost_worker_costs_one_attempt_and_no_quota(database: Database, clock: Clock) -> None:
    by = team(database, clock)
    number = send(database, by, clock)
    first = claim(database, ALICE, clock)
    assert first is not None
    lose_the_worker(database, clock)
    assert claim(database, BOB, clock) is None, "it waits a little before it is tried again"
    assert state(database, number) is State.QUEUED
    clock.advance(seconds=60)
    second = claim(database, BOB, clock)
    assert second is not None
    assert (second.attempt, second.fence) == (2, 2)
    with pytest.raises(Refusal, match="no longer this worker's"):
        finish(database, ALICE, first, clock, skill=0.9)
    assert finish(database, BOB, second, clock) is State.SCORED
    assert used(database, by, clock) == 1


def test_a_run_that_loses_every_worker_ends_as_our_failure_without_cost(database: Database, clock: Clock) -> None:
    by = team(database, clock)
    number = send(database, by, clock)
    for _ in range(LIMITS.attempts_at_most):
        assert claim(database, ALICE, clock) is not None
        lose_the_worker(database, clock)
        assert claim(database, BOB, clock) is None, "its lease is over; it waits before it is tried again"
        clock.advance(minutes=10)
    assert state(database, number) is State.ERRORED
    assert used(database, by, clock) == 0


def lose_the_worker(database: Database, clock: Clock) -> None:
    """Let a lease run out, and half a lease more, while the queue is looked at."""
    for leases in (1, 0.5):
        clock.advance(seconds=leases * LIMITS.lease.total_seconds() + 1)
        reap(database, clock)


def reap(database: Database, clock: Clock) -> int:
    with database.write() as connection:
        return queue.reap(connection, LIMITS, clock())


@pytest.mark.parametrize("hours", [3, -3])
def test_a_clock_that_jumps_takes_no_run_from_a_worker_that_lives(
    database: Database, clock: Clock, hours: float
) -> None:
    number = send(database, team(database, clock), clock)
    job = claim(database, ALICE, clock)
    assert job is not None
    for _ in range(LIMITS.attempts_at_most):
        clock.advance(hours=hours)
        assert reap(database, clock) == 0
        clock.advance(seconds=LIMITS.lease.total_seconds() / RENEWALS_PER_LEASE)
        with database.write() as connection:
            queue.renew(connection, ALICE, job.run_id, job.fence, LIMITS, clock(), "evaluates")
        for _ in range(3):
            clock.advance(seconds=LIMITS.lease.total_seconds() / 4)
            assert reap(database, clock) == 0
    assert finish(database, ALICE, job, clock) is State.SCORED
    assert state(database, number) is State.SCORED


def test_a_clock_that_is_put_back_keeps_no_run_for_a_lost_worker(database: Database, clock: Clock) -> None:
    number = send(database, team(database, clock), clock)
    assert claim(database, ALICE, clock) is not None
    clock.advance(hours=-3)
    assert reap(database, clock) == 0
    lose_the_worker(database, clock)
    assert state(database, number) is State.QUEUED
    clock.advance(hours=-3)
    assert claim(database, BOB, clock) is not None, "nor does anything wait for three hours"


def test_the_clock_is_that_of_the_database(database: Database) -> None:
    """What it says counts, and the machine's own clock does not."""
    put_forward(database)
    of_today = Service(database, COMPETITION, LIMITS)
    assert of_today.now().year == 2099
    with database.write() as connection:
        assert of_today.now(connection).microsecond == 250_000


def put_forward(database: Database) -> None:
    """Let a database say that it is late in 2099."""
    moment = "2099-12-31 12:00:00.250"
    engine = database.engine
    if engine.dialect.name == "sqlite":
        listen = sa.event.listens_for(engine, "connect")
        listen(lambda raw, _: raw.create_function("strftime", -1, lambda *_: moment))
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA later")
            connection.exec_driver_sql(
                "CREATE FUNCTION later.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
                f"AS $$ SELECT timestamptz '{moment}+00' $$"
            )
            connection.exec_driver_sql(
                f'ALTER DATABASE "{engine.url.database}" SET search_path = later, pg_catalog, public'
            )
    engine.dispose()


def test_no_part_of_the_server_reads_its_machines_clock() -> None:
    """Whoever does decides by a clock that no other server has."""
    for path in Path(cuvee.competition.__file__).parent.rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"utcnow", "today"}, path
        assert "datetime.now(" not in path.read_text(), path
        assert "time.time(" not in path.read_text(), path


def test_a_heartbeat_keeps_a_run_and_tells_of_a_lost_one(database: Database, clock: Clock) -> None:
    number = send(database, team(database, clock), clock)
    job = claim(database, ALICE, clock)
    assert job is not None
    for _ in range(5):
        clock.advance(seconds=45)
        with database.write() as connection:
            queue.renew(connection, ALICE, job.run_id, job.fence, LIMITS, clock(), "evaluates")
            assert queue.reap(connection, LIMITS, clock()) == 0
    with database.write() as connection:
        submissions.cancel(connection, ORGANISER, number, clock())
    with pytest.raises(Refusal) as refused, database.write() as connection:
        queue.renew(connection, ALICE, job.run_id, job.fence, LIMITS, clock(), "evaluates")
    assert refused.value.code == "lease_lost"


def test_a_result_sent_twice_counts_once(database: Database, clock: Clock) -> None:
    number = send(database, team(database, clock), clock)
    job = claim(database, ALICE, clock)
    assert job is not None
    assert finish(database, ALICE, job, clock) is State.SCORED
    assert finish(database, ALICE, job, clock) is State.SCORED
    with pytest.raises(Refusal, match="its result is not wanted"):
        finish(database, ALICE, job, clock, skill=0.9)
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(public_results)).scalar_one() == 1
        ends = connection.execute(sa.select(moves.c.end).order_by(moves.c.id)).scalars().all()
    assert ends == ["queued", "running", "scored"]
    assert state(database, number) is State.SCORED


def test_an_error_between_two_writes_leaves_no_half_result(database: Database, clock: Clock) -> None:
    number = send(database, team(database, clock), clock)
    job = claim(database, ALICE, clock)
    assert job is not None
    with pytest.raises(RuntimeError, match="power cut"):
        _finish_and_fail(database, job, clock)
    assert state(database, number) is State.RUNNING
    with database.read() as connection:
        assert connection.execute(sa.select(public_results)).all() == []
    assert finish(database, ALICE, job, clock) is State.SCORED


def test_failures_of_the_platform_are_tried_again_and_then_reported(database: Database, clock: Clock) -> None:
    by = team(database, clock)
    number = send(database, by, clock)
    for attempt in range(1, LIMITS.attempts_at_most + 1):
        job = claim(database, ALICE, clock)
        assert job is not None
        assert job.attempt == attempt
        with database.write() as connection:
            queue.give_up(connection, ALICE, job.run_id, job.fence, LIMITS, clock(), "no sandbox")
        clock.advance(minutes=5)
    assert state(database, number) is State.ERRORED
    assert used(database, by, clock) == 0
    with database.read() as connection:
        row = run_of(connection, number)
    assert "our failure" in row.reason


def test_teams_take_turns(database: Database, clock: Clock) -> None:
    eager, late = team(database, clock, "Eager"), team(database, clock, "Late")
    many = [send(database, eager, clock, str(nth)) for nth in range(3)]
    clock.advance(seconds=1)
    one = send(database, late, clock)
    first, second = claim(database, ALICE, clock), claim(database, BOB, clock)
    assert first is not None
    assert second is not None
    assert (first.submission_id, second.submission_id) == (many[0], one)


def test_a_baseline_is_judged_first_and_when_it_is_judged_again_last(database: Database, clock: Clock) -> None:
    with database.write() as connection:
        number, _ = new_team(connection, ORGANISER, "average", clock(), kind="baseline")
    theirs = send(database, team(database, clock), clock)
    clock.advance(seconds=1)
    own = send(database, Actor(Role.TEAM, "average", number), clock)
    job = claim(database, ALICE, clock)
    assert job is not None
    assert job.submission_id == own
    finish(database, ALICE, job, clock)
    with database.write() as connection:
        submissions.rerun(connection, ORGANISER, own, clock())
    clock.advance(seconds=1)
    rest = [claim(database, worker, clock) for worker in (ALICE, BOB)]
    assert [each and each.submission_id for each in rest] == [theirs, own]


def test_first_entries_of_teams_go_between_the_organisers_own(database: Database, clock: Clock) -> None:
    own = []
    for name in ("base", "expert", "average"):
        with database.write() as connection:
            number, _ = new_team(connection, ORGANISER, name, clock(), kind="baseline")
        own.append(send(database, Actor(Role.TEAM, name, number), clock))
    early, late = team(database, clock, "Early"), team(database, clock, "Late")
    firsts = [send(database, early, clock, "a"), send(database, late, clock, "a")]
    second = send(database, early, clock, "b")
    with database.read() as connection:
        told = queue.positions(connection)
        numbers = {row.id: row.submission_id for row in connection.execute(sa.select(runs))}
    order = []
    for _ in range(6):
        clock.advance(seconds=1)
        job = claim(database, ALICE, clock)
        assert job is not None
        finish(database, ALICE, job, clock)
        order.append(job.submission_id)
    assert order == [own[0], firsts[0], own[1], firsts[1], own[2], second]
    assert [numbers[run_id] for run_id in told] == order, "as their places in the queue said"


def test_a_rerun_uses_no_quota_and_replaces_the_result(database: Database, clock: Clock) -> None:
    by = team(database, clock)
    number = send(database, by, clock)
    job = claim(database, ALICE, clock)
    assert job is not None
    finish(database, ALICE, job, clock, skill=0.3)
    with database.write() as connection:
        submissions.rerun(connection, ORGANISER, number, clock())
    again = claim(database, BOB, clock)
    assert again is not None
    assert again.fence > job.fence
    finish(database, BOB, again, clock, skill=0.9)
    assert used(database, by, clock) == 1
    with database.read() as connection:
        assert connection.execute(sa.select(public_results.c.value)).scalar_one() > 0.7
        assert connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one() == 1


def test_only_waiting_runs_are_free_to_cancel(database: Database, clock: Clock) -> None:
    by = team(database, clock)
    waiting, running = send(database, by, clock, "a"), send(database, by, clock, "b")
    job = claim(database, ALICE, clock)
    assert job is not None
    assert job.submission_id == waiting
    for number in (waiting, running):
        with database.write() as connection:
            submissions.cancel(connection, by, number, clock())
    assert used(database, by, clock) == 1, "the one that a worker had begun"


def test_a_submission_and_a_freeze_at_once_end_one_after_the_other(database: Database, clock: Clock) -> None:
    """The one that comes second sees what the first has done."""
    by = team(database, clock)
    send(database, by, clock, "first")
    job = claim(database, ALICE, clock)
    assert job is not None
    finish(database, ALICE, job, clock)
    refused: list[str] = []

    def late() -> None:
        try:
            send(database, by, clock)
        except Refusal as refusal:
            refused.append(refusal.code)

    thread = threading.Thread(target=late)
    with database.write() as connection:
        final.freeze(connection, ORGANISER, COMPETITION, clock())
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "the submission waits until it is known whether all is frozen"
    thread.join(timeout=60)
    assert refused == ["closed"]


def test_a_freeze_waits_for_a_submission_that_is_being_taken(database: Database, clock: Clock) -> None:
    by = team(database, clock)
    refused: list[str] = []

    def freeze() -> None:
        try:
            with database.write() as connection:
                final.freeze(connection, ORGANISER, COMPETITION, clock())
        except Refusal as refusal:
            refused.append(refusal.message)

    thread = threading.Thread(target=freeze)
    received = submissions.Received(archive("a"), "recipe", [], "a", "a")
    with database.write() as connection:
        submissions.receive(connection, by, received, COMPETITION, LIMITS, clock())
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "the freeze waits for what is being taken"
    thread.join(timeout=60)
    assert refused == ["1 runs are still under way"]


def _finish_and_fail(database: Database, job: queue.Job, clock: Clock) -> None:
    verdict = said(database, job)
    with database.write() as connection:
        register(connection, ALICE, public_key(key_of("alice")), clock())
        signature = signature_of(verdict, job, "alice")
        results.take(connection, ALICE, job.run_id, job.fence, verdict, signature, service(database, clock))
        raise RuntimeError("power cut")
