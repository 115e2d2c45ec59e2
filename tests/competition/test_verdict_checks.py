"""A verdict is taken for the run that it is of, with numbers that can be right; for no other."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from competition.made import (
    HARDWARE,
    Clock,
    fitted,
    items_of,
    key_of,
    scores_of,
    signature_of,
    tiny_competition,
    verdict,
)
from competition.serving import FakeJudge, Served, beside, serve
from cuvee.competition.client import Client, ServerSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.worker import Worker
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.statistics import as_score, average, mean
from cuvee.evaluation.task import Task
from cuvee.submission.pack import read_archive
from cuvee.submission.sign import public_key
from cuvee.submission.verdict import Figures, PrivateScores, PublicScores, Verdict

Change = Callable[[Verdict], Verdict]


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def rescored(items: dict[str, tuple[float, ...]]) -> Change:
    """Say other items, with averages that are right for them."""
    return lambda of: replace(of, public=PublicScores(**scores_of(items)))  # type: ignore[arg-type]  # as made


def with_macro(**values: float) -> Change:
    def change(of: Verdict) -> Verdict:
        assert of.public is not None
        return replace(of, public=replace(of.public, macro=replace(of.public.macro, **values)))

    return change


def with_task(**values: Any) -> Change:
    def change(of: Verdict) -> Verdict:
        assert of.public is not None
        first, *others = of.public.tasks
        return replace(of, public=replace(of.public, tasks=(replace(first, **values), *others)))

    return change


def with_item(value: float) -> Change:
    def change(of: Verdict) -> Verdict:
        assert of.public is not None
        items = {**of.public.items, "sums": (*of.public.items["sums"][:-1], value)}
        return replace(of, public=replace(of.public, items=items))

    return change


def with_items_of(task: str) -> Change:
    def change(of: Verdict) -> Verdict:
        assert of.public is not None
        return replace(of, public=replace(of.public, items={**of.public.items, task: (1.0,)}))

    return change


def with_figures(**values: Any) -> Change:
    figures = Figures(1.0, 1.0, 1.0, 2.0, 1, 1, 1, 1, "bubblewrap", HARDWARE)
    return lambda of: replace(of, figures=replace(figures, **values))


def one_task(of: Verdict) -> Verdict:
    items = items_of(0.5, 1)["sums"]
    score = as_score("sums", "accuracy", mean(items))
    macro = as_score("macro", "accuracy", average([items], [2.0]))
    return replace(of, public=PublicScores(macro, (score,), {"sums": items}))


def with_private(of: Verdict) -> Verdict:
    return replace(of, private=PrivateScores(**scores_of(items_of(0.5, 9))))  # type: ignore[arg-type]  # as made


MISFITS: dict[str, tuple[Change, str]] = {
    "of another submission": (lambda of: replace(of, submission="1" * 64), "of the submission 111111111111…"),
    "of no submission": (lambda of: replace(of, submission=""), "of the submission nothing"),
    "by other rules": (lambda of: replace(of, competition_digest="2" * 64), "of a competition.yaml 222222222222…"),
    "of another competition": (lambda of: replace(of, competition="other"), "of the competition 'other'"),
    "with private scores": (with_private, "a public run brings no private scores"),
    "without scores": (lambda of: replace(of, public=None), "needs public scores and figures"),
    "without figures": (lambda of: replace(of, figures=None), "needs public scores and figures"),
    "rejected with scores": (lambda of: replace(of, outcome="rejected", reason="rules"), "is rejected and has scores"),
    "one task missing": (one_task, "public scores are of sums; the tasks are capitals, sums"),
    "a task twice": (with_task(task="sums"), "public scores are of capitals, sums; the tasks are capitals, sums"),
    "an average of 42": (with_macro(value=42.0), "the public average is not that of the items"),
    "an average below zero": (with_macro(value=-1.0), "the public average is not that of the items"),
    "an average that is no number": (with_macro(value=math.nan), ""),
    "an interval of its own": (with_macro(low=0.0), "the public average is not that of the items"),
    "a task's score of its own": (with_task(value=0.99), "the public score of 'capitals' is not that of its items"),
    "a task's count of its own": (with_task(n=61), "the public score of 'capitals' is not that of its items"),
    "an item of 1e300": (with_item(1e300), "the public item 60 of 'sums' is not between 0 and 1"),
    "an item below zero": (with_item(-0.5), "the public item 60 of 'sums' is not between 0 and 1"),
    "an item that is no number": (with_item(math.inf), "it has a number that is not finite"),
    "endless seconds": (with_figures(normalised_seconds=math.inf), "it has a number that is not finite"),
    "seconds below zero": (with_figures(merge_seconds=-1.0), "figures.merge_seconds is -1"),
    "processors below zero": (with_figures(normalised_cpu_seconds=-1.0), "figures.normalised_cpu_seconds is -1"),
    "a zero byte in its words": (lambda of: replace(of, message="a\0b"), "message has a zero byte"),
    "a zero byte in a name": (with_items_of("su\0ms"), "public.items has a zero byte"),
    "more bytes than there are": (with_figures(peak_memory_bytes=2**63), "figures.peak_memory_bytes is no count"),
}


def judge_that(change: Change) -> Callable[..., Verdict]:
    """A judge whose verdict is right but for one thing."""
    right = FakeJudge()

    def judge(archive: Path, *rest: Any) -> Verdict:
        return change(right(archive, *rest))

    return judge


def state(served: Served, number: int = 1) -> dict[str, Any]:
    return dict(served.ask("organiser", "GET", f"/api/submissions/{number}").json())


@pytest.mark.parametrize("name", MISFITS)
def test_a_verdict_that_does_not_fit_is_refused_by_name_beside_the_database(sqlite_served: Served, name: str) -> None:
    served, (change, message) = sqlite_served, MISFITS[name]
    served.send()
    assert served.work(judge_that(change)) == 1, "the worker goes on"
    found = state(served)
    assert (found["state"], found["reason_code"], found["score"]) == ("queued", "platform", None)
    assert message in found["reason"]
    assert "the verdict does not fit its run" in found["reason"]
    served.clock.advance(minutes=1)
    assert served.judge_all() == 1
    assert state(served)["state"] == "scored", "a right verdict is taken afterwards"


@pytest.fixture
def sqlite_served(sqlite: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(sqlite, clock, tiny_competition())


@pytest.mark.parametrize(
    "name",
    ["of another submission", "an average of 42", "an item of 1e300", "one task missing", "a zero byte in its words"],
)
def test_the_same_is_refused_over_http_and_the_worker_goes_on(everywhere: Served, name: str) -> None:
    served, (change, message) = everywhere, MISFITS[name]
    served.send()
    client = Client("http://testserver", served.tokens["worker"], http=served.http)
    source = ServerSource(client, served.service.competition.digest, key_of("far-away"))
    assert Worker(source, judge_that(change), Fitness).run(threading.Event(), once=True) == 1
    assert message in state(served)["reason"]
    assert Worker(source, FakeJudge(), Fitness).run(threading.Event(), once=True) == 0, "it waits before the next try"
    served.clock.advance(minutes=1)
    assert Worker(source, FakeJudge(), Fitness).run(threading.Event(), once=True) == 1
    assert state(served)["state"] == "scored"


def test_the_answer_names_what_does_not_fit_also_where_numbers_are_none(served: Served, tmp_path: Path) -> None:
    served.send()
    served.ask("worker", "POST", "/api/worker/hello", json=_hello(served))
    job = served.ask("worker", "POST", "/api/worker/claim").json()
    said = fitted(verdict(), _digest(served, tmp_path), "public", served.service.competition).to_json()
    said["public"]["macro"]["value"] = math.nan
    signature = asdict(signature_of(verdict(), Job(**job), "far-away"))
    body = json.dumps({"fence": job["fence"], "verdict": said, "signature": signature})
    path, headers = f"/api/worker/runs/{job['run_id']}/finish", {"Content-Type": "application/json"}
    answer = served.ask("worker", "POST", path, content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_verdict"
    assert "does not fit its run: public.macro.value is not a finite number" in answer.json()["error"]["message"]
    again = served.ask("worker", "POST", path, content=body, headers=headers)
    assert again.json() == answer.json(), "sent twice it ends one attempt"
    assert state(served)["attempt"] == 1


def test_a_verdict_that_never_fits_ends_as_our_failure_at_no_cost(everywhere: Served) -> None:
    served = everywhere
    served.send()
    for attempt in range(served.service.limits.attempts_at_most):
        source = beside(served.service, f"worker-{attempt}")
        assert served.work(judge_that(with_macro(value=42.0)), source) == 1
        served.clock.advance(minutes=5)
    assert state(served)["state"] == "errored"
    assert served.ask("team", "GET", "/api/quota").json()["used_today"] == 0
    log = served.ask("organiser", "GET", "/api/organiser/audit").json()
    assert [line["subject"] for line in log if line["action"] == "alert"] == ["submission 1"]


def test_everybody_is_measured_on_as_many_items(everywhere: Served) -> None:
    served = everywhere
    served.send("other", title="first")
    served.judge_all()
    served.send("team")
    served.work(judge_that(rescored(items_of(0.5, 1, n=59))))
    assert "it has 59 public items of 'capitals', and submission 1 has 60" in state(served, 2)["reason"]
    assert len(served.ask(None, "GET", "/api/board").json()["places"]) == 1
    served.ask("organiser", "POST", "/api/organiser/submissions/1/rerun")
    served.clock.advance(minutes=1)
    served.work(judge_that(rescored(items_of(0.5, 1, n=59))))
    assert state(served, 1)["state"] == "scored", "the only verdict has nothing to differ from"


def test_a_final_run_brings_private_scores_of_the_same_weights(everywhere: Served) -> None:
    served = everywhere
    served.send()
    bits = judge_that(lambda of: replace(of, reproducible="bits"))
    served.work(bits)
    served.ask("organiser", "POST", "/api/organiser/freeze")
    changes: tuple[tuple[Change, str], ...] = (
        (lambda of: replace(of, private=None), "a final run brings private scores"),
        (
            lambda of: replace(of, reproducible="bits", weights_digest="3" * 64),
            "has built the weights 333333333333…",
        ),
    )
    for change, message in changes:
        served.work(judge_that(change))
        log = served.ask("organiser", "GET", "/api/organiser/audit").json()
        assert message in [line["details"]["why"] for line in log if line["action"] == "run queued"][-1]
        served.clock.advance(minutes=5)
    served.work(bits)
    assert served.ask("organiser", "GET", "/api/organiser/finals").json()["states"] == {"scored": 1}


def test_an_archive_that_a_judge_cannot_read_is_rejected_without_its_digest(served: Served) -> None:
    served.send()
    refusal = verdict(outcome="rejected", reason="archive", message="cannot be read")
    served.work(lambda *_: replace(refusal, submission="", competition_digest=served.service.competition.digest))
    assert state(served)["state"] == "rejected"


def test_what_the_real_judge_measures_fits(tmp_path: Path) -> None:
    """The averages of real tasks follow from their items by the functions that the check uses."""
    from cuvee.competition.verdict_checks import check_content
    from cuvee.evaluation.run import judged
    from cuvee.submission.competition_yaml import load_competition
    from cuvee.submission.measure import _private, _public, load_parts
    from cuvee.submission.template import new_competition

    new_competition(tmp_path / "family", "a secret of the tests", items=8)
    competition = load_competition(tmp_path / "family")
    parts = load_parts(competition, competition.folder)
    public = _public([judged(task, guesses(task)) for task in parts.public.values()])
    private = _private([judged(task, guesses(task)) for task in parts.private.values()])
    assert public is not None
    assert 0 < public.macro.value < 1
    bound = {"competition": competition.name, "competition_digest": competition.digest}
    check_content(replace(verdict(), **bound, public=public, private=private), competition, "final")


def guesses(task: Task) -> dict[str, Answer]:
    """Answer every item, some of them rightly."""
    answers = {}
    for number, sample in enumerate(task.samples):
        prediction = number % len(sample.choices) if sample.choices else "a guess"
        answers[sample.id] = Answer(sample.id, "a prompt", prediction, 1, 0)
    return answers


def _hello(served: Served) -> dict[str, object]:
    key = public_key(key_of("far-away"))
    return {"ready": True, "competition_digest": served.service.competition.digest, "public_key": key}


def _digest(served: Served, folder: Path) -> str:
    content = served.ask("organiser", "GET", "/api/submissions/1/archive").content
    path = folder / "sent.tar"
    path.write_bytes(content)
    return read_archive(path).digest
