"""From an archive to a place on the board through the API, and what is refused on the way."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from fastapi import FastAPI

from competition.made import ORGANISER, Clock, key_of, tiny_competition, verdict
from competition.serving import FakeJudge, Served, archive, serve
from cuvee.competition.app import make_app
from cuvee.competition.client import Client, ServerSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.limits import Limits
from cuvee.competition.service import Service
from cuvee.competition.teams import new_team
from cuvee.competition.worker import Worker
from cuvee.errors import PlatformError
from cuvee.submission.archive import parse_archive, write_archive
from cuvee.submission.pack import make_archive


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> object:
    """The same on both databases."""
    yield from serve(database, clock, tiny_competition())


def test_an_archive_comes_to_a_place_on_the_board(everywhere: Served) -> None:
    number = everywhere.send("team", "first try")
    assert everywhere.ask("team", "GET", f"/api/submissions/{number}").json()["queue_position"] == 1
    assert everywhere.judge_all() == 1
    shown = everywhere.ask("team", "GET", f"/api/submissions/{number}").json()
    assert shown["state"] == "scored"
    assert [move["end"] for move in shown["history"]] == ["queued", "running", "scored"]
    place = everywhere.ask(None, "GET", "/api/board").json()["places"][0]
    assert (place["team"]["name"], place["submission"], place["ranks"]) == ("Vintners", number, [1, 1])
    assert place["score"] == shown["score"]
    table = everywhere.ask(None, "GET", "/api/board.csv").text.splitlines()
    assert table[1].startswith(f"1,1,1,Vintners,participant,{number},first try,")


def test_a_worker_on_another_machine_does_the_same(everywhere: Served) -> None:
    number = everywhere.send()
    client = Client("http://testserver", everywhere.tokens["worker"], http=everywhere.http)
    source = ServerSource(client, everywhere.service.competition.digest, key_of("far-away"))
    assert Worker(source, FakeJudge(), lambda: Fitness({"cores": "2"})).run(threading.Event(), once=True) == 1
    assert everywhere.ask("team", "GET", f"/api/submissions/{number}").json()["state"] == "scored"
    workers = everywhere.ask("organiser", "GET", "/api/organiser/workers").json()
    assert [(worker["name"], worker["judged"]) for worker in workers] == [("far-away", 1)]


def test_a_worker_with_another_competition_file_is_sent_away(served: Served) -> None:
    client = Client("http://testserver", served.tokens["worker"], http=served.http)
    with pytest.raises(Exception, match=r"another version of competition\.yaml"):
        Worker(ServerSource(client, "0" * 64, key_of("far-away")), FakeJudge(), Fitness).run(
            threading.Event(), once=True
        )


def test_a_worker_that_fails_again_and_again_takes_itself_out(served: Served) -> None:
    for nth in range(4):
        served.send(title=f"try {nth}", key=str(nth))

    def broken(*_: object) -> object:
        raise PlatformError("the disk is full")

    with pytest.raises(PlatformError, match="out of service"):
        served.judge_all(broken, "broken")  # type: ignore[arg-type]  # a judge that never judges
    assert served.ask("organiser", "GET", "/api/organiser/workers").json()[0]["ready"] is False
    served.clock.advance(minutes=5)
    assert served.judge_all(name="sound") == 4, "the others' submissions are all judged"


def test_a_self_test_that_fails_keeps_a_worker_from_all_work(served: Served) -> None:
    served.send()

    def no_sandbox() -> dict[str, str]:
        raise PlatformError("no sandbox here")

    client = Client("http://testserver", served.tokens["worker"], http=served.http)
    source = ServerSource(client, served.service.competition.digest, key_of("far-away"))
    with pytest.raises(PlatformError, match="takes itself out: no sandbox here"):
        Worker(source, FakeJudge(), no_sandbox).run(threading.Event(), once=True)
    assert served.ask("worker", "POST", "/api/worker/claim").status_code == 403


def test_an_answer_that_is_lost_makes_no_second_submission(served: Served) -> None:
    """The network fails after the server has taken the request, then before it."""
    lost = iter([True, False, False])

    def flaky(request: httpx2.Request) -> httpx2.Response:
        answer = served.http.request(
            request.method, request.url.raw_path.decode(), content=request.read(), headers=dict(request.headers)
        )
        if next(lost, False):
            raise httpx2.ReadError("connection lost")
        return httpx2.Response(answer.status_code, content=answer.content)

    waits: list[float] = []
    http = httpx2.Client(transport=httpx2.MockTransport(flaky))
    client = Client("http://testserver", served.tokens["team"], http=http, sleep=waits.append)
    sent = client.send(archive(), "mine")
    assert len(waits) == 1
    assert [each["id"] for each in client.submissions()] == [sent["id"]]
    assert client.quota()["used_today"] == 1


def test_a_server_that_stays_away_is_one_clear_error() -> None:
    def away(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    http = httpx2.Client(transport=httpx2.MockTransport(away))
    with pytest.raises(PlatformError, match="does not answer"):
        Client("http://nowhere", "token", http=http, sleep=lambda _: None).quota()


@pytest.mark.parametrize(("seconds", "taken"), [(-1, True), (0, False), (1, False)])
def test_the_deadline_is_the_servers_clock(sqlite: Database, seconds: int, taken: bool) -> None:
    closes = datetime(2026, 7, 1, tzinfo=UTC)
    for served in serve(sqlite, Clock(closes + timedelta(seconds=seconds)), tiny_competition()):
        answer = served.ask("team", "POST", "/api/submissions", content=archive())
        assert (answer.status_code == 201) is taken
        if not taken:
            assert answer.json()["error"]["code"] == "closed"


def test_an_upload_that_begins_before_the_deadline_and_ends_after_it_is_late(sqlite: Database) -> None:
    closes = datetime(2026, 7, 1, tzinfo=UTC)
    for seconds, status in ((0.5, 201), (1.5, 409)):
        clock = Clock(closes - timedelta(seconds=1))
        app = make_app(Service(sqlite, tiny_competition(), Limits(), clock))
        with sqlite.write() as connection:
            _, token = new_team(connection, ORGANISER, f"Slow {seconds}", clock())
        assert asyncio.run(_sent_slowly(app, token, clock, seconds)) == status


async def _sent_slowly(app: FastAPI, token: str, clock: Clock, seconds: float) -> int:
    """Send an archive in two pieces, the second one later. Return the status of the answer."""
    content = archive()
    pieces = iter([content[:1], content[1:]])
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        piece = next(pieces, b"")
        is_last = piece != content[:1]
        if is_last:
            clock.advance(seconds=seconds)
        return {"type": "http.request", "body": piece, "more_body": not is_last}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/api/submissions", "raw_path": b"/api/submissions", "query_string": b"", "root_path": "",
        "headers": [(b"authorization", f"Bearer {token}".encode())], "client": ("127.0.0.1", 1), "server": ("x", 80),
    }  # fmt: skip
    await app(scope, receive, send)  # type: ignore[arg-type]  # as ASGI says
    return statuses[0]


def test_half_of_a_character_in_a_lock_is_refused_with_a_message(served: Served) -> None:
    files = parse_archive(io.BytesIO(archive()), "the archive")
    lock = files["lock.json"].replace(b"models/a", b"models/\\ud800")
    content = make_archive("mine", "recipe", "tiny", {"recipe.yaml": files["recipe.yaml"], "lock.json": lock})
    answer = served.ask("team", "POST", "/api/submissions", content=content)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "bad_archive"
    assert "half" in error["message"]
    assert served.ask("team", "GET", "/api/quota").json()["used_today"] == 0


def test_the_quota_of_a_day_is_kept_and_comes_back(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(per_day=2)):
        for nth in range(2):
            served.send(title=f"try {nth}")
        refused = served.ask("team", "POST", "/api/submissions", content=archive("third"))
        assert refused.status_code == 429
        assert "2026-06-11 00:00 UTC" in refused.json()["error"]["hint"]
        assert served.ask("team", "GET", "/api/quota").json()["remaining"] == 0
        served.ask("organiser", "POST", "/api/organiser/submissions/1/give-back")
        assert served.ask("team", "GET", "/api/quota").json()["remaining"] == 1
        clock.advance(hours=12)
        assert served.ask("team", "GET", "/api/quota").json()["remaining"] == 2


def test_a_quota_is_not_overdrawn_by_many_at_once(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition(per_day=3)):
        codes: list[int] = []

        def one(nth: int, served: Served = served, codes: list[int] = codes) -> None:
            codes.append(served.ask("team", "POST", "/api/submissions", content=archive(f"try {nth}")).status_code)

        threads = [threading.Thread(target=one, args=(nth,)) for nth in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [201] * 3 + [429] * 5


def test_one_key_that_is_sent_many_times_at_once_is_one_submission(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition(per_day=3)):
        key = {"X-Request-Key": "one"}
        answers = at_once(6, served, "team", "/api/submissions", content=archive(), headers=key)
        assert {answer.json()["id"] for answer in answers} == {1}
        assert served.ask("team", "GET", "/api/quota").json()["remaining"] == 2


def test_of_several_freezes_at_once_one_is_made(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition()):
        served.send()
        served.judge_all()
        clock.advance(days=60)
        answers = at_once(6, served, "organiser", "/api/organiser/freeze")
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
        lines = served.ask("organiser", "GET", "/api/organiser/audit").json()
        assert [line["action"] for line in lines].count("frozen") == 1


def at_once(count: int, served: Served, who: str, path: str, **options: object) -> list[httpx2.Response]:
    """Send one request so many times at the same moment."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: served.ask(who, "POST", path, **options), range(count)))


@pytest.mark.parametrize(
    "content",
    [b"", b"not an archive", b"\x1f\x8b" + bytes(100), write_archive({"recipe.yaml": b"x"})],
    ids=["nothing", "text", "gzip", "no manifest"],
)
def test_what_is_no_submission_is_refused_and_costs_nothing(served: Served, content: bytes) -> None:
    answer = served.ask("team", "POST", "/api/submissions", content=content)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_archive"
    assert served.ask("team", "GET", "/api/quota").json()["used_today"] == 0


def test_more_than_may_be_sent_is_refused_while_it_comes(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(archive_bytes=1000)):
        answer = served.ask("team", "POST", "/api/submissions", content=bytes(100_000))
        assert answer.status_code == 413


def test_names_that_look_alike_are_one_name(served: Served) -> None:
    for name in ("vintners", "Vіntners", "Ｖintners", " Vint-ners "):
        answer = served.ask(None, "POST", "/api/teams", json={"name": name})
        assert answer.json()["error"]["code"] == "name_taken", name
    hidden = served.ask(None, "POST", "/api/teams", json={"name": "a\u202eb"})
    assert hidden.json()["error"]["code"] == "bad_name"


@pytest.mark.parametrize(
    "name",
    ["v\u0131ntners", "ᴠintners", "Ꮩintners", "ᐯintners", "V1ntners", "vlntners", "VINTNERS",
     "Vіntnеrs", "vinтners", "VINТNЕRS", "𝐕intners", "v i n t n e r s", "Víntnèrs"],
)  # fmt: skip
def test_names_are_compared_by_unicodes_table(served: Served, name: str) -> None:
    from cuvee.competition.names import name_key

    if name_key(name) != name_key("Vintners"):
        pytest.fail(f"{name!a} has the key {name_key(name)!a}")
    assert served.ask(None, "POST", "/api/teams", json={"name": name}).json()["error"]["code"] == "name_taken"


@pytest.mark.parametrize(
    ("first", "second"), [("Coopers", "Cօօpers"), ("Coopers", "C0٥pers"), ("modem", "rnodern"), ("YES", "ΥΕЅ")]
)
def test_pairs_that_look_alike_have_one_key(first: str, second: str) -> None:
    from cuvee.competition.names import name_key

    assert name_key(first) == name_key(second)


@pytest.mark.parametrize(("first", "second"), [("Vintners", "Coopers"), ("équipe 2", "équipe 3"), ("北京", "東京")])
def test_other_names_have_other_keys(first: str, second: str) -> None:
    from cuvee.competition.names import name_key

    assert name_key(first) != name_key(second)


@pytest.mark.parametrize(
    "name", ["Organiser", "the organizers", "Jury", "jurу", "0rganiser", "ADMIN", "a d m i n", "Cuvée staff", "Aⅾmin"]
)
def test_nobody_takes_a_name_of_those_who_run_the_competition(served: Served, name: str) -> None:
    refused = served.ask(None, "POST", "/api/teams", json={"name": name}).json()["error"]
    assert refused["code"] == "bad_name"
    assert "of those who run the competition" in refused["message"]
    assert served.ask("organiser", "POST", "/api/organiser/teams", json={"name": name}).status_code == 201


def test_formulas_do_not_reach_a_spreadsheet(served: Served) -> None:
    served.send(title="=HYPERLINK(1)")
    served.judge_all()
    assert ",'=HYPERLINK(1)," in served.ask(None, "GET", "/api/board.csv").text


def test_a_rejected_submission_says_why_and_is_not_on_the_board(served: Served) -> None:
    number = served.send()
    refusal = verdict(outcome="rejected", reason="rules", message="models/a was uploaded after the cut-off")
    served.judge_all(lambda *_: refusal)  # type: ignore[arg-type]  # a judge is a function
    shown = served.ask("team", "GET", f"/api/submissions/{number}").json()
    assert (shown["state"], shown["reason_code"], shown["score"]) == ("rejected", "rules", None)
    assert "after the cut-off" in shown["reason"]
    assert served.ask(None, "GET", "/api/board").json()["places"] == []
    assert served.ask(None, "GET", f"/api/submissions/{number}").status_code == 404


def test_every_organisers_verb_is_in_the_audit_log(served: Served) -> None:
    served.send()
    served.judge_all()
    for path, body in (
        ("submissions/1/hide", {"hidden": True}),
        ("submissions/1/hide", {"hidden": False}),
        ("submissions/1/annotate", {"note": "well done"}),
        ("submissions/1/give-back", None),
        ("submissions/1/rerun", None),
        ("teams/2/hide", {"hidden": True}),
        ("workers", {"name": "w1"}),
        ("workers/w1/revoke", None),
    ):
        answer = served.ask("organiser", "POST", f"/api/organiser/{path}", json=body)
        assert answer.status_code in (200, 201), (path, answer.text)
    log = served.ask("organiser", "GET", "/api/organiser/audit").json()
    actions = [line["action"] for line in log if line["role"] == "organiser"]
    assert actions[-9:] == [
        "hidden", "shown", "annotated", "quota given back", "run queued", "team hidden",
        "tokens revoked", "token made", "tokens revoked",
    ]  # fmt: skip


def test_the_audit_log_cannot_be_changed(database: Database, clock: Clock) -> None:
    import sqlalchemy as sa

    from cuvee.competition.tables import audit

    for served in serve(database, clock, tiny_competition()):
        assert served.ask("organiser", "GET", "/api/organiser/audit").json() != []
        for change in (audit.update().values(actor="nobody"), audit.delete()):
            with pytest.raises(sa.exc.DBAPIError, match="append-only"), database.write() as connection:
                connection.execute(change)


def test_a_cancelled_submission_leaves_nothing_but_its_line(everywhere: Served) -> None:
    for nth in range(3):
        number = everywhere.send(title="again", weight=7.0)
        assert stored(everywhere) > 0
        answer = everywhere.ask("team", "POST", f"/api/submissions/{number}/cancel")
        assert (answer.json()["state"], answer.json()["recipe"]) == ("cancelled", ""), nth
        assert stored(everywhere) == 0
    assert everywhere.ask("team", "GET", f"/api/submissions/{number}/archive").status_code == 404
    refused = everywhere.ask("organiser", "POST", f"/api/organiser/submissions/{number}/rerun")
    assert "was dropped when it was cancelled" in refused.json()["error"]["message"]


def test_what_another_submission_needs_outlives_a_cancelled_one(everywhere: Served) -> None:
    cancelled, kept = everywhere.send("team", "same"), everywhere.send("other", "same")
    everywhere.ask("team", "POST", f"/api/submissions/{cancelled}/cancel")
    assert everywhere.ask("other", "GET", f"/api/submissions/{kept}/archive").content == archive("same")
    assert everywhere.judge_all() == 1
    everywhere.ask("organiser", "POST", f"/api/organiser/submissions/{kept}/rerun")
    everywhere.ask("other", "POST", f"/api/submissions/{kept}/cancel")
    assert everywhere.ask("other", "GET", f"/api/submissions/{kept}/archive").content == archive("same"), "has a score"


def test_a_worker_whose_run_was_cancelled_gets_no_archive(everywhere: Served) -> None:
    from cuvee.competition.refusals import Refusal

    number = everywhere.send()
    client = Client("http://testserver", everywhere.tokens["worker"], http=everywhere.http)
    source = ServerSource(client, everywhere.service.competition.digest, key_of("far-away"))
    source.enter(Fitness())
    job = source.claim()
    assert job is not None
    everywhere.ask("team", "POST", f"/api/submissions/{number}/cancel")
    with pytest.raises(Refusal, match="was cancelled") as refused:
        source.archive(job)
    assert refused.value.code == "lease_lost"


def test_what_a_team_stores_is_bounded(database: Database, clock: Clock) -> None:
    most = 3 * len(archive()) + 2000
    for served in serve(database, clock, tiny_competition(), Limits(team_bytes=most)):
        codes = []
        for nth in range(5):
            content = archive(f"try {nth}", nth + 2.0)
            codes.append(served.ask("team", "POST", "/api/submissions", content=content).status_code)
        assert codes == [201, 201, 201, 429, 429]
        assert stored(served) <= most
        assert served.ask("other", "POST", "/api/submissions", content=archive("try 0", 2.0)).status_code == 201
        served.ask("team", "POST", "/api/submissions/2/cancel")
        assert served.ask("team", "POST", "/api/submissions", content=archive("room again")).status_code == 201


def test_a_recipe_longer_than_recipes_are_read_is_refused_on_arrival(served: Served) -> None:
    from cuvee.submission.pack import make_archive

    long = make_archive("long", "recipe", "tiny", {"recipe.yaml": b"# " + b"x" * 2_000_000, "lock.json": b"{}"})
    answer = served.ask("team", "POST", "/api/submissions", content=long)
    assert answer.status_code == 422
    assert "the recipe has 2000002 characters" in answer.json()["error"]["message"]


def test_lists_come_without_recipes(served: Served) -> None:
    number = served.send()
    assert [each["recipe"] for each in served.ask("team", "GET", "/api/submissions").json()] == [None]
    assert served.ask("team", "GET", f"/api/submissions/{number}").json()["recipe"].startswith("merge_method")


def stored(served: Served) -> int:
    """Count the bytes of the first team's archives and recipes."""
    from cuvee.competition.quotas import stored_bytes

    with served.service.database.read() as connection:
        return stored_bytes(connection, served.teams["team"])
