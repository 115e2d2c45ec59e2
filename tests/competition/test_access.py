"""Who may do what: every route, asked by everybody."""

import sys
from dataclasses import replace

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from competition.made import Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.competition.access import ACCESS, METRICS
from cuvee.competition.database import Database
from cuvee.competition.limits import Limits
from cuvee.competition.local import make_token
from cuvee.competition.states import Role
from cuvee.competition.tables import tokens
from cuvee.competition.tokens import MOST_SESSIONS

PEOPLE = {
    "team": Role.TEAM,
    "worker": Role.WORKER,
    "organiser": Role.ORGANISER,
    "rater": Role.RATER,
    None: Role.VISITOR,
}
REFUSED = {401, 403}


def filled(path: str) -> str:
    path = path.replace("{team_id}/token", "2/token")  # of the other team: this one still needs its own
    for name in ("submission_id", "team_id", "run_id"):
        path = path.replace(f"{{{name}}}", "1")
    return path.replace("{name}", "pages.js")


def test_everybody_else_is_refused_and_who_may_is_not(served: Served) -> None:
    served.send()
    rater = make_token(served.service, Role.RATER, "Ada")
    served = replace(served, tokens={**served.tokens, "rater": rater})
    wrong = []
    for (method, path), allowed in sorted(ACCESS.items()):
        for who, role in PEOPLE.items():
            status = status_for(served, who, method, path)
            expected = role not in allowed or is_refused_for_another_reason(method, path, role)
            if (status in REFUSED) != expected:
                wrong.append((method, path, role, status))
    assert wrong == []


def status_for(served: Served, who: str | None, method: str, path: str) -> int:
    """Ask, as a program for the API and as a browser for pages."""
    if path.startswith("/api/") or path == METRICS:
        return served.ask(who, method, filled(path)).status_code
    served.http.cookies.clear()
    if who:
        served.http.cookies.set("cuvee", served.tokens[who])
    form = {"token": served.tokens[who or "team"]} if path == "/sign-in" and method == "POST" else None
    answer = served.http.request(method, filled(path), data=form)
    to_sign_in = answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")
    return 401 if to_sign_in else answer.status_code


def is_refused_for_another_reason(method: str, path: str, role: Role) -> bool:
    """Routes that this role may use, but not now: the phase shows no logs, the worker has not said hello, ..."""
    return (method, path, role) in {
        ("GET", "/api/submissions/{submission_id}/logs", Role.TEAM),
        ("POST", "/api/worker/claim", Role.WORKER),
        ("POST", "/sign-in", Role.WORKER),
    }


def test_no_route_is_missing_from_the_table(served: Served) -> None:
    documented = {
        (method.upper(), path)
        for path, verbs in served.http.app.openapi()["paths"].items()
        for method in verbs  # type: ignore[attr-defined]  # FastAPI
    }
    assert documented == {(method, path) for method, path in ACCESS if path.startswith("/api/")}


@pytest.mark.parametrize("path", ["", "/logs", "/archive"])
def test_another_team_learns_nothing_of_a_submission(served: Served, path: str) -> None:
    number = served.send("team")
    for who in ("other", None):
        assert served.ask(who, "GET", f"/api/submissions/{number}{path}").status_code in {401, 404}


def test_lists_show_others_only_what_is_on_the_board(served: Served) -> None:
    shown = served.send("team", "judged")
    served.judge_all()
    waits = served.send("team", "waits", key="b")
    for who, expected in (("team", [waits, shown]), ("organiser", [waits, shown]), ("other", []), (None, [shown])):
        assert [each["id"] for each in served.ask(who, "GET", "/api/submissions").json()] == expected
    listed = served.ask("other", "GET", f"/api/submissions?team={served.teams['team']}").json()
    assert [(each["id"], each["recipe"]) for each in listed] == [(shown, None)]


@pytest.mark.parametrize("verb", ["cancel", "select"])
def test_another_team_cannot_touch_a_submission(served: Served, verb: str) -> None:
    number = served.send("team")
    answer = served.ask("other", "POST", f"/api/submissions/{number}/{verb}", json={"chosen": True})
    assert answer.status_code == 404


def test_a_form_that_another_site_sends_is_refused(served: Served) -> None:
    number = served.send("team")
    served.http.cookies.set("cuvee", served.tokens["team"])
    foreign = [{"Origin": "https://evil.example"}, {"Origin": "null"}]
    foreign += [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site")]
    for headers in foreign:
        assert served.http.post(f"/submissions/{number}/cancel", headers=headers).status_code == 403
    assert served.http.post(f"/submissions/{number}/cancel", headers={"Origin": "http://testserver"}).status_code == 303


def test_a_browser_that_says_no_origin_sends_no_cookie_for_another_site(served: Served) -> None:
    signed_in = served.http.post("/sign-in", data={"token": served.tokens["team"]})
    assert "samesite=strict" in signed_in.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "asked",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/\t/evil.example", "me"],
)
def test_signing_in_leads_nowhere_but_to_this_site(asked: str, served: Served) -> None:
    form = served.http.get("/sign-in", params={"next": asked}).text
    assert "evil.example" not in form
    assert "javascript:" not in form
    signed_in = served.http.post("/sign-in", data={"token": served.tokens["team"], "next": asked})
    assert signed_in.headers["location"] in ("/", "/me")


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e%2fapp.py", "..%5capp.py", "%2fetc%2fpasswd", "/etc/passwd"])
def test_no_path_below_static_leads_to_another_file(path: str, served: Served) -> None:
    answer = served.http.get(f"/static/{path}")
    assert answer.status_code in (404, 422)
    assert "from cuvee" not in answer.text
    assert "root:" not in answer.text


def test_wrong_tokens_are_refused_alike_and_written_down_nowhere(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    guesses = [f"{kind}_{number:043}" for kind in ("cuvee-team", "cuvee-organiser", "x") for number in range(10)]
    guesses += [served.tokens["team"][:-1], served.tokens["team"] + "a", served.tokens["team"].upper()]
    answers = [served.http.get("/api/me", headers={"Authorization": f"Bearer {guess}"}) for guess in guesses]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert served.http.get("/api/me", params={"token": served.tokens["team"]}).status_code == 401
    written = caplog.text.encode() + b"".join(path.read_bytes() for path in _files(served))
    assert not any(guess.encode() in written for guess in guesses)
    assert served.ask("team", "GET", "/api/me").status_code == 200


def test_a_cookie_is_no_key_to_the_api(served: Served) -> None:
    served.http.cookies.set("cuvee", served.tokens["organiser"])
    assert served.http.post("/api/organiser/freeze").status_code == 401


def test_only_digests_of_tokens_are_kept(served: Served) -> None:
    content = b"".join(path.read_bytes() for path in _files(served))
    for token in served.tokens.values():
        assert token.encode() not in content


def test_a_replaced_token_and_its_sessions_end(served: Served) -> None:
    signed_in = served.http.post("/sign-in", data={"token": served.tokens["team"]})
    assert signed_in.headers["location"] == "/me"
    assert "HttpOnly" in signed_in.headers["set-cookie"]
    answer = served.ask("organiser", "POST", f"/api/organiser/teams/{served.teams['team']}/token")
    assert answer.status_code == 200
    assert served.ask("team", "GET", "/api/me").status_code == 401
    assert served.http.get("/me").headers["location"].startswith("/sign-in")
    assert served.http.get("/api/me", headers={"Authorization": f"Bearer {answer.json()['token']}"}).status_code == 200


def test_an_organisers_token_that_is_replaced_takes_its_sessions_with_it(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition()):
        thief = TestClient(served.http.app, follow_redirects=False)
        thief.post("/sign-in", data={"token": served.tokens["organiser"]})
        assert thief.get("/organiser").status_code == 200
        new = make_token(served.service, Role.ORGANISER, "organiser")
        assert thief.get("/organiser").headers["location"].startswith("/sign-in")
        assert session_rows(served) == 0
        answer = thief.get("/api/organiser/export", headers={"Authorization": f"Bearer {new}"})
        assert answer.status_code == 200


def test_the_value_of_a_session_is_no_token(served: Served) -> None:
    served.http.post("/sign-in", data={"token": served.tokens["organiser"]})
    session = served.http.cookies["cuvee"]
    bearer = {"Authorization": f"Bearer {session}"}
    assert served.http.get("/api/organiser/export", headers=bearer).status_code == 401
    assert served.http.post("/sign-in", data={"token": session}).status_code == 401, "nor does it make more sessions"


def test_sessions_that_are_over_leave_no_rows(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition()):
        lines = len(served.ask("organiser", "GET", "/api/organiser/audit").json())
        for _ in range(25):
            served.http.post("/sign-in", data={"token": served.tokens["team"]})
        assert session_rows(served) == MOST_SESSIONS
        assert served.http.get("/me").status_code == 200, "the newest one stays"
        assert len(served.ask("organiser", "GET", "/api/organiser/audit").json()) == lines
        served.http.post("/sign-out")
        assert session_rows(served) == MOST_SESSIONS - 1
        served.clock.advance(hours=13)
        served.http.post("/sign-in", data={"token": served.tokens["other"]})
        assert session_rows(served) == 1


def test_what_an_organiser_does_by_a_session_is_told_in_its_name(served: Served) -> None:
    served.http.post("/sign-in", data={"token": served.tokens["organiser"]})
    served.http.post(f"/organiser/teams/{served.teams['team']}", data={"verb": "hide"})
    line = served.ask("organiser", "GET", "/api/organiser/audit").json()[-1]
    assert (line["action"], line["actor"]) == ("team hidden", "organiser")


@pytest.mark.parametrize("https", [False, True])
def test_behind_https_cookies_and_browsers_are_told_so(sqlite: Database, clock: Clock, https: bool) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(https=https)):
        answer = served.http.post("/sign-in", data={"token": served.tokens["team"]})
        assert ("Secure" in answer.headers["set-cookie"]) is https
        assert ("strict-transport-security" in answer.headers) is https


def session_rows(served: Served) -> int:
    with served.service.database.read() as connection:
        rows = sa.select(sa.func.count()).select_from(tokens).where(tokens.c.parent_id.is_not(None))
        return int(connection.execute(rows).scalar_one())


def test_a_session_ends_by_itself(served: Served) -> None:
    served.http.post("/sign-in", data={"token": served.tokens["team"]})
    assert served.http.get("/me").status_code == 200
    served.clock.advance(hours=13)
    assert served.http.get("/me").status_code == 303


def test_the_server_loads_no_model_library() -> None:
    import subprocess

    code = "import sys, cuvee.competition.app; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def _files(served: Served) -> list:  # type: ignore[type-arg]  # paths
    from pathlib import Path

    return list(Path(str(served.service.database.engine.url.database)).parent.iterdir())
