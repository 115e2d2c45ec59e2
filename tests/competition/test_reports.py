"""Written reports: handed in until the deadline, read by whom they are for, rated and let go, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from competition.made import ORGANISER, TEXT, Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.cli.app import app
from cuvee.competition.backup import restore_backup, write_backup
from cuvee.competition.client import Client
from cuvee.competition.database import Database, open_database, sqlite_url
from cuvee.competition.deadlines import with_more_time
from cuvee.competition.refusals import Refusal
from cuvee.competition.reports import kind_of_report
from cuvee.competition.retention import remove_old
from cuvee.competition.site import write_site
from cuvee.competition.states import Role
from cuvee.competition.tokens import new_token
from cuvee.errors import RecipeError
from cuvee.submission.competition import Competition

TRACK = """
tracks:
  - {name: paper, title: Papers, by: report, scale: 5, raters: [Ada, Grace Hopper], upload: UPLOAD}
"""
PDF = b"%PDF-1.7\n% <script>alert(1)</script>\n"
MARKDOWN = "# A report\n\n<script>alert(1)</script> & ünïcode\n".encode()


def competition(upload: str = "{max: 1kB, closes: 2026-07-15}") -> Competition:
    return tiny_competition(text=TEXT + TRACK.replace("UPLOAD", upload))


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    for served in serve(database, clock, competition()):
        yield with_raters(served)


@pytest.fixture
def published(sqlite: Database, clock: Clock) -> Iterator[Served]:
    """A competition that says that reports come out."""
    for served in serve(sqlite, clock, competition("{published: true}")):
        yield with_raters(served)


def with_raters(served: Served) -> Served:
    """Give both raters tokens, and one to somebody whom the file does not name."""
    tokens = dict(served.tokens)
    with served.service.database.write() as connection:
        for name in ("Ada", "Grace Hopper", "Mallory"):
            tokens[name] = new_token(connection, ORGANISER, Role.RATER, name, served.clock())
    return replace(served, tokens=tokens)


def hand_in(served: Served, content: bytes, who: str = "team") -> httpx2.Response:
    return served.ask(who, "POST", "/api/tracks/paper/report", content=content)


def read(served: Served, who: str | None, team: str = "team") -> int:
    return served.ask(who, "GET", f"/api/tracks/paper/reports/{served.teams[team]}").status_code


def rate(served: Served, who: str, value: float | None, **body: str) -> httpx2.Response:
    path = f"/api/tracks/paper/reports/{served.teams['team']}/rating"
    return served.ask(who, "POST", path, json={"value": value, **body})


def listed(served: Served, who: str | None) -> list[str]:
    return [each["name"] for each in served.ask(who, "GET", "/api/tracks/paper/reports").json()]


def publish(served: Served) -> None:
    served.send("team")
    served.send("other", title="theirs")
    served.judge_all()
    served.ask("organiser", "POST", "/api/organiser/freeze")
    served.judge_all()
    assert served.ask("organiser", "POST", "/api/organiser/publish").status_code == 200


def test_a_report_replaces_the_earlier_one_until_the_deadline_and_the_audit_log_has_both(everywhere: Served) -> None:
    assert [hand_in(everywhere, content).status_code for content in (MARKDOWN, PDF)] == [201, 201]
    kept = everywhere.ask("team", "GET", f"/api/tracks/paper/reports/{everywhere.teams['team']}")
    assert kept.content == PDF
    everywhere.clock.advance(days=35)
    late = hand_in(everywhere, MARKDOWN)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "closed")
    assert "until 2026-07-15 00:00 UTC" in late.json()["error"]["message"]
    lines = everywhere.ask("organiser", "GET", "/api/organiser/audit").json()
    sent = [line["details"] for line in lines if line["action"] == "report handed in"]
    assert sorted(each["bytes"] for each in sent) == sorted((len(MARKDOWN), len(PDF)))


def test_the_deadline_is_that_of_the_last_phase_with_entries_and_moves_with_it() -> None:
    by_phase, by_day = competition("{}"), competition()
    more = {"open": 3600.0}
    for of, usual in ((by_phase, "2026-07-01T00:00"), (by_day, "2026-07-15T00:00")):
        moments = [each.upload_closes(each.tracks[0]) for each in (of, with_more_time(of, more))]
        assert f"{moments[0]:%Y-%m-%dT%H:%M}" == usual
        assert moments[1] - moments[0] == timedelta(hours=1)


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 422, "the file is empty"),
        (b"x" * 1001, 413, "more than the"),
        (b"PK\x03\x04" + b"\0" * 20, 422, "this is a zip file"),
        (b"\xff\xfe\x00", 422, "neither a PDF nor a text in UTF-8"),
        (b"two\x1b[2Jlines", 422, "neither a PDF nor a text in UTF-8"),
    ],
)
def test_what_is_no_report_is_refused_with_what_it_is(
    everywhere: Served, content: bytes, status: int, said: str
) -> None:
    answer = hand_in(everywhere, content)
    assert answer.status_code == status
    assert said in answer.text
    assert listed(everywhere, "organiser") == []


@given(st.binary(max_size=40))
def test_bytes_are_a_pdf_a_text_that_a_page_can_show_or_refused(content: bytes) -> None:
    try:
        kind = kind_of_report(content)
    except Refusal:
        return
    assert content.startswith(b"%PDF-") if kind == "pdf" else content.decode("utf-8").strip()


def test_the_team_the_organiser_and_named_raters_read_a_report_and_nobody_else(everywhere: Served) -> None:
    hand_in(everywhere, MARKDOWN)
    readers = ("team", "organiser", "Ada", "Grace Hopper")
    others = ("other", "worker", "Mallory", None)
    assert [read(everywhere, who) for who in readers] == [200] * 4
    assert [read(everywhere, who) for who in others] == [404] * 4
    assert [listed(everywhere, who) for who in (*readers, *others)] == [["Vintners"]] * 4 + [[]] * 4
    pages = f"/tracks/paper/reports/{everywhere.teams['team']}"
    for path in (pages, f"{pages}/file"):
        assert [everywhere.page(who, path).status_code for who in ("team", "Ada")] == [200, 200]
        assert [everywhere.page(who, path).status_code for who in ("other", "Mallory", None)] == [404] * 3
    publish(everywhere)
    assert read(everywhere, None) == 404, "the file does not say that reports come out"
    assert "/reports/" not in everywhere.page(None, "/tracks/paper").text


@pytest.mark.parametrize(("content", "type_of"), [(PDF, "application/pdf"), (MARKDOWN, "text/plain; charset=utf-8")])
def test_a_report_goes_out_as_a_file_that_no_browser_opens_and_a_text_as_letters(
    everywhere: Served, content: bytes, type_of: str
) -> None:
    hand_in(everywhere, content)
    path = f"/tracks/paper/reports/{everywhere.teams['team']}"
    for answer in (everywhere.page("team", f"{path}/file"), everywhere.ask("team", "GET", f"/api{path}")):
        assert answer.content == content
        assert answer.headers["content-type"] == type_of
        assert answer.headers["content-disposition"].startswith('attachment; filename="report-paper-')
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    page = everywhere.page("team", path).text
    assert "<script>alert(1)" not in page
    assert ("&lt;script&gt;alert(1)" in page) == (content == MARKDOWN)


def test_raters_give_their_own_score_and_learn_that_a_report_has_changed_since(everywhere: Served) -> None:
    hand_in(everywhere, MARKDOWN)
    assert rate(everywhere, "Ada", 4).status_code == 200
    assert rate(everywhere, "Ada", 2, rater="Grace Hopper").status_code == 200, "in Ada's own name, whatever is said"
    assert rate(everywhere, "Mallory", 5).status_code == 422
    assert rate(everywhere, "team", 5).status_code == 403
    assert rate(everywhere, "organiser", 3).status_code == 422, "whose score is it?"
    assert rate(everywhere, "organiser", 3, rater="Grace Hopper").status_code == 200
    given_scores = everywhere.ask("organiser", "GET", "/api/organiser/ratings").json()
    assert {each["rater"]: each["value"] for each in given_scores} == {"Ada": 2, "Grace Hopper": 3}
    everywhere.clock.advance(minutes=1)
    hand_in(everywhere, PDF)
    [seen] = everywhere.ask("Ada", "GET", "/api/tracks/paper/reports").json()
    assert (seen["own"], seen["is_earlier"]) == (2, True)
    assert "given to an earlier version" in everywhere.page("Ada", "/reports").text
    assert everywhere.ask("Ada", "GET", "/api/organiser/ratings").status_code == 403
    assert everywhere.page("Ada", "/organiser").status_code == 403
    assert "No track names you as a rater" in everywhere.page("Mallory", "/reports").text


def test_the_whole_way_by_forms(everywhere: Served) -> None:
    def post(who: str, path: str, data: dict[str, str], **files: tuple[str, bytes]) -> httpx2.Response:
        everywhere.http.cookies.set("cuvee", everywhere.tokens[who])
        answer = everywhere.http.post(path, data=data, files=files or None)
        everywhere.http.cookies.clear()
        return answer

    assert "You have handed in nothing yet" in everywhere.page("team", "/me").text
    wrong = post("team", "/me/report", {"track": "paper"}, report=("a.zip", b"PK\x03\x04" + b"\0" * 9))
    assert (wrong.status_code, "This is a zip file" in wrong.text) == (422, True)
    sent = post("team", "/me/report", {"track": "paper"}, report=("report.md", MARKDOWN))
    assert sent.headers["location"] == "/me#reports"
    assert f"Your report</a>, {len(MARKDOWN)} B, came" in everywhere.page("team", "/me").text
    signed = everywhere.http.post("/sign-in", data={"token": everywhere.tokens["Ada"]})
    assert signed.headers["location"] == "/reports"
    everywhere.http.cookies.clear()
    team = str(everywhere.teams["team"])
    assert post("Ada", "/reports", {"track": "paper", "team": team, "value": "3,5"}).status_code == 303
    assert 'value="3.5"' in everywhere.page("Ada", "/reports").text
    assert 'value="3.5"' not in everywhere.page("Grace Hopper", "/reports").text
    assert "Read the reports" in everywhere.page("organiser", "/organiser").text


def test_reports_come_out_with_the_ranking_where_the_file_says_so(published: Served, tmp_path: Path) -> None:
    hand_in(published, MARKDOWN)
    hand_in(published, PDF, "other")
    rate(published, "Ada", 4)
    assert read(published, None) == 404
    publish(published)
    assert [read(published, None, team) for team in ("team", "other")] == [200, 200]
    assert published.ask(None, "GET", "/api/tracks/paper").json()["reports"] == sorted(
        published.teams[team] for team in ("team", "other")
    )
    link = f"/tracks/paper/reports/{published.teams['team']}"
    assert link in published.page(None, "/tracks/paper").text
    write_site(published.service, tmp_path)
    assert (tmp_path / f"report-paper-{published.teams['other']}.pdf").read_bytes() == PDF
    text = f"report-paper-{published.teams['team']}.txt"
    assert (tmp_path / text).read_bytes() == MARKDOWN
    assert f'href="{text}"' in (tmp_path / "track-paper.html").read_text()
    published.ask("organiser", "POST", f"/api/organiser/teams/{published.teams['team']}/hide", json={"hidden": True})
    assert [read(published, who) for who in (None, "Ada", "team", "organiser")] == [404, 404, 200, 200]


def test_reports_are_in_a_backup_and_those_that_nobody_publishes_are_let_go(everywhere: Served, tmp_path: Path) -> None:
    service = everywhere.service
    hand_in(everywhere, PDF)
    publish(everywhere)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "competition.yaml").write_text(service.competition.text)
    kept = replace(service.competition, folder=tmp_path / "folder")
    with service.database.read() as connection:
        write_backup(connection, kept, tmp_path / "all.tar", everywhere.clock())
    restored = sqlite_url(tmp_path / "restored.db")
    restore_backup(tmp_path / "all.tar", tmp_path / "elsewhere", restored)
    again = open_database(restored)
    with again.read() as connection:
        assert connection.exec_driver_sql("SELECT content FROM reports").scalar() == PDF
    again.close()
    everywhere.clock.advance(days=91)
    with service.database.write() as connection:
        removed = remove_old(connection, service.competition, timedelta(days=90), everywhere.clock())
    assert removed["reports"] == 1
    assert read(everywhere, "organiser") == 404
    assert "not kept any more" in everywhere.page("organiser", "/reports").text
    assert everywhere.page("team", "/me").status_code == 200


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{name: a, by: claim_gap, upload: {}}", "by 'claim_gap', which has no reports"),
        ("{name: a, by: claim_gap, raters: [Ada]}", "by 'claim_gap', which has no reports"),
        ("{name: a, by: report, raters: [Ada, Ada]}", "names a rater twice"),
        ("{name: a, by: report, upload: {max: 1GB}}", "max"),
        ('{name: a, by: report, raters: [" Ada"]}', "raters"),
    ],
)
def test_a_track_of_reports_that_makes_no_sense_is_refused(written: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        tiny_competition(text=f"{TEXT}\ntracks:\n  - {written}\n")


def test_the_command_line_hands_in_lists_saves_and_rates(
    everywhere: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(server: str, token: str) -> Client:
        return Client("http://testserver", token, http=everywhere.http)  # type: ignore[arg-type]  # a client of tests

    monkeypatch.setattr("cuvee.competition.client.Client", client)

    def run(who: str, *words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--token", everywhere.tokens[who]])
        assert done.exit_code == 0, done.output
        return done.stdout

    (tmp_path / "report.md").write_bytes(MARKDOWN)
    number = str(everywhere.teams["team"])
    assert "the report of Vintners is in: text" in run("team", "submission", "report", str(tmp_path / "report.md"))
    assert run("Ada", "competition", "rate", number, "4.5") == f"paper, team {number}: 4.5\n"
    assert "Vintners  you gave 4.5" in run("Ada", "competition", "reports", str(tmp_path / "saved"))
    assert (tmp_path / "saved" / f"team-{number}.txt").read_bytes() == MARKDOWN
    run("organiser", "competition", "rate", number, "none", "--rater", "Ada")
    assert "you gave" not in run("Ada", "competition", "reports")
