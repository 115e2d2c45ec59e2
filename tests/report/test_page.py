"""The page: complete, self-contained, and inert whatever is written in a recipe."""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from cuvee.errors import MissingExtra
from cuvee.report import Difference, render_page, rows
from cuvee.report.page import difference_scale, duration, score_scale, summary
from cuvee.report.template import content_hash

from .boards import board, with_entry

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = '<script>alert("x")</script></pre><img src=x onerror=alert(1)> & "quotes" {{ 7 * 7 }}'


class Page(HTMLParser):
    """What a browser without scripts would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.preformatted: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        for name, store in (("pre", self.preformatted), ("script", self.scripts), ("style", self.styles)):
            if tag == name:
                store.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for name, store in (("pre", self.preformatted), ("script", self.scripts), ("style", self.styles)):
            if name in self.open:
                store[-1] += data
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return render_page(board(reference=True))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_tag_is_closed(page: Page) -> None:
    assert page.open == []


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    places = [
        attributes[name]
        for tag, attributes in page.tags
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
        if name in attributes
    ]

    assert {place for place in places if not place.startswith("#")} == {"data:,"}
    assert "src" not in page.all("script")[0]
    assert not re.search(r"@import|url\(|https?:", page.styles[0] + page.scripts[0])


def test_the_policy_allows_this_style_and_script_alone(page: Page) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")

    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src '{content_hash(page.styles[0])}'" in policy
    assert f"script-src '{content_hash(page.scripts[0])}'" in policy
    assert not any("style" in attributes or "onclick" in attributes for _, attributes in page.tags)


def test_links_within_the_page_lead_somewhere(page: Page) -> None:
    places = [attributes["id"] for _, attributes in page.tags if "id" in attributes]

    assert {link["href"][1:] for link in page.all("a")} <= set(places)
    assert len(places) == len(set(places))


def test_every_entry_shows_without_scripts(page: Page) -> None:
    for row in rows(board(reference=True)):
        assert row.rank.replace("-", "–") in page.text
        assert row.name in page.text
        assert row.method in page.text
        assert f"{100 * row.private.value:.1f}" in page.text


def test_every_recipe_is_there_word_for_word(page: Page) -> None:
    recipes = [entry.recipe.strip("\n") for entry in board().entries if entry.recipe]

    assert len(recipes) == 14
    assert set(recipes) <= set(page.preformatted)


def test_verdict_tasks_and_commands_are_there(page: Page) -> None:
    leaderboard = board()

    assert "beats the best parent reverse by +18.6 points on the private part" in page.text
    assert all(task.example_input in page.text and task.example_answer in page.text for task in leaderboard.tasks)
    assert "\n".join(leaderboard.commands) in page.preformatted
    assert leaderboard.starter_recipe.strip() in page.preformatted


def test_parents_and_references_carry_a_chip(page: Page) -> None:
    chips = [span["class"] for span in page.all("span") if (span.get("class") or "").startswith("chip")]

    # One more of each in the explanation.
    assert (chips.count("chip base"), chips.count("chip expert"), chips.count("chip reference")) == (2, 6, 2)


def test_headings_descend_one_level_at_a_time(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_and_drawings_can_be_read_aloud(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("caption")) == len(page.all("table")) == 3
    assert all("scope" in header for header in page.all("th"))
    assert all("aria-label" in drawing or "aria-hidden" in drawing for drawing in page.all("svg"))


@pytest.mark.parametrize("field", ["name", "method", "recipe"])
def test_markup_in_an_entry_is_inert(field: str) -> None:
    page = Page(render_page(with_entry(board(reference=True), **{field: HOSTILE})))

    assert page.open == []
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert " ".join(HOSTILE.split()) in page.text


def test_markup_in_the_other_texts_is_inert() -> None:
    leaderboard = board()
    tasks = (replace(leaderboard.tasks[0], example_input=HOSTILE, example_answer=HOSTILE), *leaderboard.tasks[1:])
    page = Page(
        render_page(replace(leaderboard, title=HOSTILE, tasks=tasks, starter_recipe=HOSTILE, commands=(HOSTILE,)))
    )

    assert page.open == []
    assert len(page.all("script")) == 1
    assert page.text.count("{{ 7 * 7 }}") == 6


def test_a_task_that_was_not_measured_shows_as_missing() -> None:
    leaderboard = with_entry(board(), private_tasks={}, public_tasks={})

    assert render_page(leaderboard).count('<td class="missing">–</td>') == 10


def test_a_leaderboard_without_references_does_not_explain_them() -> None:
    assert "reference" not in Page(render_page(board())).text


def test_the_same_leaderboard_gives_the_same_page(html: str) -> None:
    assert render_page(board(reference=True)) == html


def test_a_missing_jinja_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)

    with pytest.raises(MissingExtra, match=r"\[eval\]"):
        render_page(board())


def test_the_summary_counts_what_is_ranked() -> None:
    assert summary(board(reference=True)).startswith(
        "14 blends of 6 parent models and 1 reference, measured on 5 tasks and ranked by their mean score on private"
    )


def test_bars_start_at_zero_and_hold_every_whisker() -> None:
    scale = score_scale(board())

    assert (scale.left, scale.right) == (0.0, 0.7)
    assert scale.x(0.35) == 100.0
    assert scale.x(2.0) == scale.width


@pytest.mark.parametrize(
    "difference", [Difference(0.2, 0.1, 0.3), Difference(-0.2, -0.3, -0.1), Difference(0.0, 0.0, 0.0)]
)
def test_the_verdict_is_drawn_beside_zero(difference: Difference) -> None:
    scale = difference_scale(difference)

    assert 0 < scale.x(0.0) < scale.width
    assert 0 < scale.x(difference.low) <= scale.x(difference.high) < scale.width


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.04, "0.0 s"), (0.42, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200.2, "3 min 20 s")],
)
def test_durations_are_written_for_people(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
