"""The pages: complete without scripts, escaped, looked at in a browser in both colour schemes and on a phone."""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import uvicorn

from competition.filled import fill
from competition.made import TEXT, TRACKS, Clock, tiny_competition
from competition.serving import FakeJudge, Served, serve
from cuvee.competition.console import Announcement
from cuvee.competition.database import open_database, sqlite_url
from cuvee.competition.pages import routes
from cuvee.competition.pages.board_page import arranged
from cuvee.competition.pages.prose import news_of
from cuvee.competition.pages.render import command, count, moment, plain_moment, size
from cuvee.competition.site import write_site
from cuvee.report.template import content_hash
from cuvee.submission.verdict import Verdict
from measures import broken_words, small_targets

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
PATIENCE_MS = 120_000  # for machines that do much else
SHOTS = os.environ.get("CUVEE_SCREENSHOTS")
"""A folder to keep pictures in, for people to look at."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A competition in full swing."""
    database = open_database(sqlite_url(tmp_path_factory.mktemp("pages") / "competition.db"))
    for served in serve(database, Clock(), tiny_competition(logs="all", text=TEXT + TRACKS)):
        fill(served)
        yield served
    database.close()


PUBLIC_PAGES = (
    "/",
    "/board",
    "/start",
    "/data",
    "/final",
    "/guide",
    "/join",
    "/sign-in",
    "/teams/5",
    "/submissions/4",
    "/versus?one=4&other=5",
    "/tracks/frugal",
    "/tracks/per-token",
    "/tracks/report",
)


WIDTHS = (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390))
if SHOTS:
    WIDTHS = (*WIDTHS, ("light", 768), ("dark", 768))

AXE_LOOKS_AT = {
    ("light", "/"),
    ("light", "/board"),
    ("light", "/guide"),
    ("light", "/tracks/frugal"),
    ("light", "/organiser"),
    ("dark", "/board"),
    ("dark", "/me"),
    ("dark", "/submissions/10"),
}
"""Axe takes two seconds a page; with CUVEE_SCREENSHOTS it looks at all of them."""


@pytest.mark.parametrize("path", PUBLIC_PAGES)
def test_a_page_is_complete_without_scripts_and_loads_nothing_from_elsewhere(site: Served, path: str) -> None:
    answer = site.page(None, path)
    assert answer.status_code == 200
    assert "<h1>" in answer.text
    assert "<script>alert" not in answer.text
    assert "http://" not in answer.text.replace("http://testserver", "").replace("http://127.0.0.1", "")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    policy = f"default-src 'none'; script-src 'self'; style-src '{content_hash(style)}'; "
    assert answer.headers["content-security-policy"].startswith(policy)


def test_the_board_is_sorted_and_filtered_by_its_address(site: Served) -> None:
    by_team = site.page(None, "/board?sort=team").text
    assert by_team.index("average</a>") < by_team.index("base</a>") < by_team.index("Terroir</a>")
    assert site.page(None, "/board?find=oak").text.count('<tr class="') == 1
    assert site.page(None, "/board?kind=parent").text.count('<tr class="parent"') == 2
    assert "Ordered by weights of your own" in site.page(None, "/board?w.capitals=5&w.sums=0").text
    for odd in ("?page=999999", "?sort=nothing&reverse=x", "?w.capitals=nan&w.sums=-1", "?phase=final", "?page=²"):
        assert site.page(None, "/board" + odd).status_code == 200


def test_a_board_of_several_pages_shows_the_readers_row_on_each(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "arranged", partial(arranged, rows_per_page=2))
    last = site.page(None, "/board?page=99").text
    number = re.findall(r'<tr .* id="team-([0-9]+)"', last)[-1]
    assert 'aria-label="Page 5 of 5" aria-current="page"' in last
    assert f'id="team-{number}"' not in site.page(None, "/board").text
    assert f'id="team-{number}"' in site.page(None, f"/board?at={number}").text
    own = f'<tr class="participant own" id="team-{site.teams["team"]}">'
    pages = [site.page("team", f"/board?page={page}").text for page in range(1, 6)]
    assert [text.count(own) for text in pages] == [1] * 5
    assert sum("<strong>your team</strong>, <a href=" in text for text in pages) == 4


def test_what_nobody_has_measured_is_said_and_not_shown_as_nothing(served: Served) -> None:
    def unmeasured(*judged: Any) -> Verdict:
        said = FakeJudge()(*judged)
        assert said.figures is not None
        return replace(said, figures=replace(said.figures, normalised_cpu_seconds=None, peak_memory_bytes=None))

    number = served.send()
    served.judge_all(unmeasured)
    assert "CPU time not measured, memory not measured" in served.page("team", f"/submissions/{number}").text
    for order in ("memory", "cpu"):
        shown = served.page(None, f"/board?sort={order}").text
        assert "CPU not measured" in shown
        assert "memory not measured" in shown
    cost = served.ask(None, "GET", f"/api/submissions/{number}").json()["cost"]
    assert (cost["cpu_seconds"], cost["memory_bytes"]) == (None, None)


def test_a_teams_own_page_shows_rules_lineage_and_history(site: Served) -> None:
    text = site.page("team", "/submissions/10").text
    for part in (
        "Lineage",
        "models/a",
        "✓ Every rule is kept",
        "12 M parameters of at most 8 B",
        "queued → running",
        "all went well",
    ):
        assert part in text
    assert "9.1 B parameters" in site.page("team", "/submissions/11").text
    assert "9.1 B parameters" not in site.page("other", "/submissions/11").text


def test_a_teams_page_says_what_luck_gives_with_so_many_tries(served: Served) -> None:
    for number in range(3):
        served.send(key=f"{number}", weight=number)
        assert ("luck alone" in served.page(None, f"/teams/{served.teams['team']}").text) == (number > 1)
        served.judge_all()
    text = served.page(None, f"/teams/{served.teams['team']}").text
    assert "With 3 scored entries luck alone lifts the best" in text


def test_an_empty_board_says_what_goes_on(served: Served) -> None:
    assert "Nobody has sent an entry yet" in served.page(None, "/board").text
    served.send()
    for path in ("/", "/board"):
        assert "Nobody has a score yet." in served.page(None, path).text


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (-30, "takes entries from"),
        (0, "takes entries until"),
        (25, "the chosen entries are judged on private items"),
        (90, "The final ranking is being made"),
    ],
)
def test_pages_open_before_a_competition_in_each_phase_and_after_it(served: Served, days: int, words: str) -> None:
    served.clock.advance(days=days)
    assert words in served.page(None, "/").text
    for who, path in (
        (None, "/board"),
        (None, "/guide"),
        (None, "/start"),
        ("team", "/me"),
        ("organiser", "/organiser"),
    ):
        assert served.page(who, path).status_code == 200, path


def test_an_empty_page_offers_what_can_be_done_and_no_empty_tables(served: Served) -> None:
    assert 'class="choices"' not in served.page(None, "/board").text
    assert 'class="choices"' in served.page(None, "/board?find=nobody").text
    mine = served.page("team", "/me").text
    theirs = served.page(None, f"/teams/{served.teams['team']}").text
    assert "No entry of this team has a score yet." in theirs
    assert "Head to head" not in theirs
    assert "You have sent nothing yet." in mine
    assert "<table" not in mine
    assert "The phase final, in which they are judged" in served.page(None, "/final").text
    missing = served.page("team", "/submissions/77").text
    assert "There is no submission 77 to be seen." in missing
    assert "Sign out" in missing, "whoever is signed in stays so on a page that is not there"


def test_the_console_says_whose_entry_waits_and_that_a_phase_is_still_open(served: Served) -> None:
    served.send(title="first try")
    text = served.page("organiser", "/organiser").text
    assert "Vintners" in text
    assert "The phase open still takes entries until" in text
    served.clock.advance(days=30)
    assert "still takes entries" not in served.page("organiser", "/organiser").text


def test_once_frozen_no_page_asks_for_entries(served: Served) -> None:
    number = served.send()
    served.judge_all()
    assert "Use for the final ranking" in served.page("team", f"/submissions/{number}").text
    assert 'href="/join"' in served.page(None, "/").text.partition("<main")[2]
    served.ask("organiser", "POST", "/api/organiser/freeze")
    first = served.page(None, "/").text.partition("<main")[2]
    assert "No more entries are taken" in first
    assert 'href="/join"' not in first
    assert "No phase takes submissions now." in served.page("team", "/me").text
    assert "Use for the final ranking" not in served.page("team", f"/submissions/{number}").text
    assert '<span class="chip base">open' not in served.page(None, "/guide").text


def test_every_team_can_be_rated_however_many_there_are(site: Served) -> None:
    board = site.ask(None, "GET", "/api/board").json()["places"]
    teams = [place["team"]["id"] for place in board if place["team"]["kind"] == "participant"]
    with mock.patch("cuvee.competition.pages.routes.MOST_TEAMS", 2):
        text = site.page("organiser", "/organiser").text
    assert "The newest 2; " in text
    assert len(teams) > 5
    assert all(f'<option value="{team}">' in text for team in teams)


@pytest.mark.parametrize(
    ("number", "text"),
    [(500, "500 B"), (6_950, "7 kB"), (17_100_000, "17.1 MB"), (209_715_200, "210 MB"), (2_000_000_000, "2 GB")],
)
def test_sizes_have_no_more_digits_than_a_reader_wants(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(("number", "text"), [(950, "950"), (5512, "5,512"), (12_300, "12.3 k"), (8e6, "8 M")])
def test_counts_are_written_as_elsewhere_on_the_page(number: float, text: str) -> None:
    assert count(number) == text


def test_a_command_breaks_between_its_words_alone_and_is_escaped() -> None:
    assert command("get <a>\n--token T") == (
        '<span class="word">get</span> <span class="word">&lt;a&gt;</span>\n'
        '<span class="word">--token</span> <span class="word">T</span>'
    )


def test_what_is_not_there_is_named_and_a_filter_that_fits_nothing_leads_back(site: Served) -> None:
    assert "There is no page /nowhere." in site.page(None, "/nowhere").text
    assert ">Show all</a>" in site.page(None, "/board?find=nobody").text


def test_the_guide_says_how_often_a_team_may_send(site: Served) -> None:
    text = site.page(None, "/guide").text
    assert re.search(r"<td>[0-9]+ a day", text)
    assert "those chosen</td>" in text


def test_news_are_told_with_the_newest_first() -> None:
    about = "about: {news: [{date: 2026-05-01, what: early}, {date: 2026-06-09, what: late}]}\n"
    announced = [Announcement(datetime(2026, 6, 9, hour, tzinfo=UTC), f"at {hour}") for hour in (15, 8)]
    told = [news.text for news in news_of(tiny_competition(text=TEXT + about), announced)]
    assert told == ["at 15", "at 8", "late", "Version 1 of the rules: the first version", "early"]


def test_days_and_times_are_written_alike() -> None:
    noon = datetime(2026, 6, 9, 14, tzinfo=timezone(timedelta(hours=2)))
    assert moment(noon) == '<time datetime="2026-06-09T12:00Z">2026-06-09 12:00 UTC</time>'
    assert moment(noon.date()) == '<time datetime="2026-06-09">2026-06-09</time>'
    assert plain_moment(noon) == "2026-06-09 12:00 UTC"


def test_other_weights_say_who_gains(site: Served) -> None:
    text = site.page(None, "/board?w.capitals=100&w.sums=0.01").text
    assert "Ordered by weights of your own." in text
    assert "Most gain:" in text or "No team gains a place" in text


def test_the_live_part_of_a_page_asks_again_only_while_something_happens(site: Served) -> None:
    assert 'hx-trigger="every 2s"' in site.page("team", "/submissions/12/state").text
    assert "hx-trigger" not in site.page("team", "/submissions/10/state").text


def test_joining_sending_choosing_and_signing_out_by_forms(site: Served) -> None:
    from competition.serving import archive

    site.http.cookies.clear()
    joined = site.http.post("/join", data={"name": "Form Fillers", "members": "Ann, Bob"})
    assert "cuvee-team_" in joined.text
    sent = site.http.post("/me/send", files={"archive": ("a.tar", archive("by form"))}, data={"title": "by form"})
    assert sent.status_code == 303
    assert "by form" in site.http.get(sent.headers["location"]).text
    assert site.http.post(sent.headers["location"] + "/cancel").status_code == 303
    assert "cancelled" in site.http.get("/me").text
    refused = site.http.post("/me/send", files={"archive": ("a.tar", b"no archive")})
    assert refused.status_code == 422
    assert "cuvee submission pack" in refused.text
    site.http.post("/sign-out")
    assert site.http.get("/me").status_code == 303
    site.http.cookies.clear()


def test_the_static_site_holds_what_a_visitor_sees_and_its_links_lead_somewhere(site: Served, tmp_path: Path) -> None:
    assert write_site(site.service, tmp_path) > 10
    for page in tmp_path.glob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#]+)"', page.read_text(encoding="utf-8")):
            assert link.startswith("data:") or (tmp_path / link).exists(), (page.name, link)


@pytest.fixture(scope="module")
def address(site: Served) -> Iterator[str]:
    """The same site on a port of this machine."""
    config = uvicorn.Config(site.http.app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium")
def test_in_a_browser_pages_pass_axe_fit_a_phone_and_can_be_clicked_through(site: Served, address: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            for scheme, width in WIDTHS:
                _look_at_all(browser, site, address, scheme, width)
            _click_through(browser, site, address)
        finally:
            browser.close()


def _look_at_all(browser, site, address, scheme, width):  # type: ignore[no-untyped-def]  # playwright's own types
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    for who, paths in (
        (None, (*PUBLIC_PAGES, "/board?w.capitals=5&w.sums=1")),
        ("team", ("/me", "/submissions/10", "/submissions/12")),
        ("organiser", ("/organiser", "/submissions/10")),
    ):
        context.clear_cookies()
        if who:
            context.add_cookies([{"name": "cuvee", "value": site.tokens[who], "url": address}])
        for path in paths:
            page.goto(address + path)
            _picture(page, f"{scheme}-{width}-{who or 'visitor'}-{path.strip('/').replace('/', '-') or 'board'}")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path} is too wide"
            assert broken_words(page) == [], (path, width)
            assert small_targets(page) == [], (path, width)
            if SHOTS or (scheme, path) in AXE_LOOKS_AT:
                found = Axe().run(page).response["violations"]
                assert found == [], (path, scheme, [(each["id"], each["nodes"][0]["html"]) for each in found])
    assert problems == []
    context.close()


def _wait_for_htmx(page):  # type: ignore[no-untyped-def]  # playwright's own types
    """Wait for the script that comes after the first paint. Playwright's own wait evaluates text: pages forbid it."""
    most = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate("Boolean(window.htmx)"):
        assert time.monotonic() < most, "htmx did not come"
        page.wait_for_timeout(20)


def _click_through(browser, site, address):  # type: ignore[no-untyped-def]  # playwright's own types
    from playwright.sync_api import expect

    page = browser.new_page(timezone_id="Asia/Tokyo", locale="en-US")
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    expect(page.locator(".phases time").first).to_have_text("2026-06-01 09:00")
    page.goto(f"{address}/board")
    _wait_for_htmx(page)
    rows = page.locator(".board tbody tr")
    page.get_by_label("Team", exact=True).press_sequentially("oak")
    expect(rows).to_have_count(1, timeout=PATIENCE_MS)
    page.locator("select[name=kind]").select_option("parent")
    empty = "Nothing on the board fits the filter"
    expect(page.locator("#board")).to_contain_text(empty, timeout=PATIENCE_MS)
    page.goto(f"{address}/board")
    page.get_by_role("link", name="Seconds").click()
    assert "sort=seconds" in page.url
    page.get_by_role("link", name="Terroir", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Terroir")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Token").fill(site.tokens["team"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="waits").click()
    expect(page.locator("#state")).to_contain_text("waits for a worker")
    site.judge_all()
    expect(page.locator("#state")).to_contain_text("judged, with a score", timeout=PATIENCE_MS)
    page.reload()
    page.get_by_role("button", name="Use for the final ranking").click()
    expect(page.get_by_role("button", name="Take it out")).to_be_visible()
    page.close()


def _picture(page, name):  # type: ignore[no-untyped-def]  # playwright's own types
    if SHOTS:
        safe = "".join(c if c.isalnum() or c in "-." else "_" for c in name)
        page.screenshot(path=str(Path(SHOTS) / f"{safe}.png"), full_page=True)
