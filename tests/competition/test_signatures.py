"""Verdicts are signed by the worker that brings them: what is taken, what is shown, what a change is seen by."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from competition.made import Clock, fitted, key_of, signature_of, tiny_competition, verdict
from competition.serving import FakeJudge, Served, beside, serve
from cuvee.cli.app import app
from cuvee.competition.client import Client, ServerSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.inbox import submission_digest
from cuvee.competition.job import Job
from cuvee.competition.refusals import Refusal
from cuvee.competition.signatures import look_at_signatures
from cuvee.competition.tables import private_results, public_results, verdicts
from cuvee.competition.worker import Worker
from cuvee.competition.worker_keys import own_key, register, state_folder
from cuvee.errors import PlatformError
from cuvee.submission.sign import public_key
from cuvee.submission.statement import Signature, check_document
from cuvee.submission.verdict import Verdict


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def begun(served: Served, name: str = "beside") -> tuple[Job, Verdict]:
    """Send a submission and let a worker claim it; return its run and a right verdict."""
    number = served.send()
    source = beside(served.service, name)
    source.enter(Fitness())
    job = source.claim()
    assert job is not None
    archive = served.ask("organiser", "GET", f"/api/submissions/{number}/archive").content
    return job, fitted(verdict(), submission_digest(archive), "public", served.service.competition)


def hand_in(served: Served, job: Job, said: Verdict, signature: Signature, worker: str = "beside") -> None:
    from cuvee.competition import results

    results.finish(served.service, beside(served.service, worker).worker, job.run_id, job.fence, said, signature)


def test_a_worker_makes_one_key_that_only_its_user_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    first = public_key(own_key("a token"))
    assert public_key(own_key("a token")) == first
    assert public_key(own_key("another token")) != first
    files = list((state_folder() / "workers").iterdir())
    assert [oct(path.stat().st_mode)[-3:] for path in files] == ["600", "600"]
    files[0].chmod(0o644)
    files[1].chmod(0o644)
    with pytest.raises(PlatformError, match="others may read"):
        own_key("a token")


def test_workers_that_start_at_once_take_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    workers = 8
    at_once = threading.Barrier(workers)

    def start(_: int) -> str:
        at_once.wait()
        return public_key(own_key("a token"))

    with ThreadPoolExecutor(workers) as pool:
        keys = list(pool.map(start, range(workers)))
    assert len(keys) == workers
    assert len(set(keys)) == 1


def of_another_run(job: Job) -> Job:
    return replace(job, run_id=job.run_id + 1)


def under_another_lease(job: Job) -> Job:
    return replace(job, fence=job.fence + 1)


def for_the_final(job: Job) -> Job:
    return replace(job, purpose="final")


@pytest.mark.parametrize("change", [of_another_run, under_another_lease, for_the_final])
def test_a_signature_is_of_one_run_and_lease(served: Served, change: Any) -> None:
    job, said = begun(served)
    with pytest.raises(Refusal, match="its signature is not that of this verdict and this run"):
        hand_in(served, job, said, signature_of(said, change(job), "beside"))


def test_a_signature_is_of_one_verdict(served: Served) -> None:
    job, said = begun(served)
    better = fitted(verdict(0.9), said.submission, "public", served.service.competition)
    with pytest.raises(Refusal, match="its signature is not that of this verdict"):
        hand_in(served, job, better, signature_of(said, job, "beside"))


def test_a_verdict_is_taken_under_a_key_of_its_worker_alone(served: Served) -> None:
    job, said = begun(served)
    beside(served.service, "other").enter(Fitness())
    with pytest.raises(Refusal, match="a key that is not, or no longer, its worker's") as refused:
        hand_in(served, job, said, signature_of(said, job, "other"))
    assert refused.value.code == "bad_verdict"
    assert served.ask("organiser", "GET", "/api/submissions/1").json()["state"] == "queued", "it is tried again"


def test_what_comes_over_http_is_signed_shown_and_checked_by_anybody(everywhere: Served, tmp_path: Path) -> None:
    served = everywhere
    served.send()
    client = Client("http://testserver", served.tokens["worker"], http=served.http)
    source = ServerSource(client, served.service.competition.digest, key_of("far-away"))
    assert Worker(source, FakeJudge(), Fitness).run(threading.Event(), once=True) == 1
    answer = served.ask("team", "GET", "/api/submissions/1/verdict")
    shown, key = answer.json(), public_key(key_of("far-away"))
    assert shown["key"]["public_key"] == key
    assert [each["public_key"] for each in served.ask(None, "GET", "/api/keys").json()] == [key]
    statement = check_document(shown["document"], key)
    assert (statement.run, statement.fence, statement.purpose) == (1, 1, "public")
    assert statement.verdict.public is not None
    assert not statement.verdict.public.items, "scores of items are under the seal alone"
    file, archive = tmp_path / "verdict.json", tmp_path / "mine.tar"
    file.write_bytes(answer.content)
    archive.write_bytes(served.ask("team", "GET", "/api/submissions/1/archive").content)
    run = CliRunner().invoke
    checked = run(app, ["competition", "check-verdict", str(file), "--key", key, "--archive", str(archive)])
    assert checked.exit_code == 0, checked.output
    assert f"signed by {key}" in checked.stdout
    assert "public score" in checked.stdout
    file.write_text(answer.text.replace('"outcome":"accepted"', '"outcome":"rejected"'))
    assert run(app, ["competition", "check-verdict", str(file)]).exit_code != 0
    file.write_bytes(answer.content)
    stranger = public_key(key_of("a stranger"))
    assert run(app, ["competition", "check-verdict", str(file), "--key", stranger]).exit_code != 0


def test_who_may_see_a_score_may_see_the_signed_verdict(served: Served) -> None:
    served.send()
    served.judge_all()
    path = "/api/submissions/1/verdict"
    assert served.ask("organiser", "GET", path).status_code == 200
    assert served.ask("team", "GET", path).status_code == 200
    assert served.ask("other", "GET", path).status_code == 404, "it names models, as the recipe does"
    assert served.page("team", "/submissions/1/verdict").status_code == 200
    assert "signed verdict" in served.page("team", "/submissions/1").text
    served.ask("organiser", "POST", "/api/organiser/freeze")
    served.judge_all()
    assert served.ask("team", "GET", f"{path}?purpose=final").status_code == 404
    served.ask("organiser", "POST", "/api/organiser/publish")
    for purpose in ("public", "final"):
        assert served.ask(None, "GET", f"{path}?purpose={purpose}").status_code == 200


def test_a_score_that_a_phase_withholds_is_withheld_in_signed_verdicts(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(feedback="none")):
        served.send()
        judge = FakeJudge(competition=served.service.competition)
        served.judge_all(judge)
        assert served.ask("team", "GET", "/api/submissions/1/verdict").status_code == 404
        assert served.ask("organiser", "GET", "/api/submissions/1/verdict").status_code == 200


def test_a_verdict_from_before_is_shown_as_unsigned(served: Served) -> None:
    served.send()
    served.judge_all()
    with served.service.database.write() as connection:
        connection.execute(verdicts.update().values(signed=None, salt=""))
    shown = served.ask("team", "GET", "/api/submissions/1/verdict").json()
    assert shown["document"] is None
    assert "nobody: it was judged before workers signed" in served.page("team", "/submissions/1").text
    with served.service.database.read() as connection:
        assert str(look_at_signatures(connection)) == "signed verdicts: 0 say what is stored; 1 are unsigned"


def test_a_key_ends_with_its_token_and_what_it_signed_stays_valid(served: Served) -> None:
    served.send()
    client = Client("http://testserver", served.tokens["worker"], http=served.http)
    source = ServerSource(client, served.service.competition.digest, key_of("far-away"))
    Worker(source, FakeJudge(), Fitness).run(threading.Event(), once=True)
    served.ask("organiser", "POST", "/api/organiser/workers/far-away/revoke")
    shown = served.ask("organiser", "GET", "/api/submissions/1/verdict").json()
    assert shown["key"]["ended_at"] is not None
    check_document(shown["document"], public_key(key_of("far-away")))
    with served.service.database.read() as connection:
        assert not look_at_signatures(connection).problems
    token = served.ask("organiser", "POST", "/api/organiser/workers", json={"name": "far-away"}).json()["token"]
    again = ServerSource(Client("http://testserver", token, http=served.http), source.competition_digest, source.key)
    with pytest.raises(Refusal, match="has ended with its token"):
        again.enter(Fitness())


def test_nobody_registers_the_key_of_another_worker(everywhere: Served) -> None:
    beside(everywhere.service, "one").enter(Fitness())
    other = beside(everywhere.service, "two").worker
    with pytest.raises(Refusal, match="another worker's"), everywhere.service.database.write() as connection:
        register(connection, other, public_key(key_of("one")), everywhere.clock())


CHANGES: dict[str, tuple[sa.Table, dict[str, Any], str]] = {
    "a score on the board": (public_results, {"value": 0.999}, "its public score is 0.999 on the board"),
    "scores of public items": (public_results, {"item_scores": {"sums": [1.0]}}, "the public scores of its items"),
    "scores of private items": (private_results, {"item_scores": {"sums": [1.0]}}, "the private scores of its items"),
    "the verdict": (verdicts, {"content": {"outcome": "rejected"}}, "what is stored differs from what was signed"),
    "the signature": (verdicts, {"signed": {"content": {}}}, "this is no signed document"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_export_sees_what_was_changed_in_the_database(served: Served, name: str) -> None:
    table, values, problem = CHANGES[name]
    served.send()
    served.judge_all()
    served.ask("organiser", "POST", "/api/organiser/freeze")
    served.judge_all()
    with served.service.database.write() as connection:
        assert not look_at_signatures(connection).problems
        connection.execute(table.update().values(**values))
    with served.service.database.read() as connection:
        assert problem in str(look_at_signatures(connection))


def test_a_signed_document_travels_as_json(served: Served) -> None:
    job, said = begun(served)
    signature = signature_of(said, job, "beside")
    sent = Verdict.from_json(json.loads(json.dumps(said.to_json())))
    hand_in(served, job, sent, Signature(**json.loads(json.dumps(asdict(signature)))))
    assert served.ask("team", "GET", "/api/submissions/1").json()["state"] == "scored"
