"""The browser of items, clicked through in a headless Chromium from a file, with the network off."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from cuvee.report import render_evaluation

from .evaluations import evaluated

RIGHT = [True] * 60 + [False] * 90
OTHER = [True] * 40 + [False] * 20 + [True] * 10 + [False] * 80


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page") / "report.html"
    models = [evaluated("blend", right=RIGHT), evaluated("parent", right=OTHER, texts=("a", "c d", "e f"))]
    place.write_text(render_evaluation(models), encoding="utf-8")
    return place


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The page from its file; whatever goes wrong in it, or asks for a network, fails the test."""
    context = browser.new_context(offline=True)
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda said: problems.append(said.text))
    opened.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or problems.append(asked.url))
    opened.goto(file.as_uri())
    yield opened
    context.close()
    assert problems == []


def count(page: Any) -> str:
    text: str = page.inner_text("#count")
    return text


def test_the_first_item_is_there_side_by_side(page: Any) -> None:
    assert count(page) == "150 of 150 items"
    assert page.locator("#list li").count() == 100
    assert page.locator("#list .about").first.inner_text() == "Question 0"
    assert page.inner_text("#item h3") == "places · q0"
    assert "Question 0 about <script>alert(0)</script> places" in page.inner_text("#item pre")
    assert page.locator("#item thead th").all_inner_texts() == ["Choice", "blend", "parent"]
    assert page.locator("#item tbody tr").count() == 3
    assert "Paris" in page.locator("#item tbody tr").nth(0).inner_text()
    assert page.locator("#item .target").inner_text() == "target"
    assert page.locator("#item td.picked").all_inner_texts() == ["-2.00 ← picked"] * 2
    assert page.locator("#item .verdicts").inner_text().count("✓") == 2


def test_filters_show_who_was_right(page: Any) -> None:
    expected = {"differ": 30, "first": 20, "second": 10, "both": 40, "neither": 80, "all": 150}
    for choice, items in expected.items():
        page.select_option("#show", choice)
        assert count(page) == f"{items} of 150 items"
    page.select_option("#show", "second")
    assert page.inner_text("#item h3") == "places · q60"
    assert "✗" in page.locator("#list .marks").first.inner_text()


def test_search_finds_words_and_marks_them(page: Any) -> None:
    page.fill("#search", "question alert(14)")
    assert count(page) == "1 of 150 items"
    assert page.inner_text("#item h3") == "places · q14"
    assert page.inner_text("#item mark") == "Question"
    page.fill("#search", "no such words")
    assert count(page) == "0 of 150 items"
    assert page.inner_text("#item") == "No item fits."
    page.fill("#search", "")
    assert count(page) == "150 of 150 items"


def test_an_item_is_chosen_by_click_and_by_key(page: Any) -> None:
    page.locator("#list button").nth(2).click()
    assert page.inner_text("#item h3") == "places · q2"
    assert "3 tokens cut" in page.inner_text("#item .verdicts")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#item h3") == "places · q3"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#item h3") == "places · q1"
    assert page.locator("#list button[aria-current=true]").count() == 1


def test_the_rest_of_a_long_list_comes_when_asked(page: Any) -> None:
    page.click("#more")
    assert page.locator("#list li").count() == 150
    assert page.is_hidden("#more")


def test_another_task_shows_texts_and_what_was_read(page: Any) -> None:
    page.select_option("#task", label="texts")
    assert count(page) == "3 of 3 items"
    shown = page.inner_text("#item")
    assert "Answer of blend" in shown
    assert "well, a b" in shown
    assert "read as: a b" in shown
    assert "0.50" in page.locator("#list .marks").first.inner_text()


def test_one_model_alone_has_its_own_filters(page: Any) -> None:
    page.select_option("#second", "")
    page.select_option("#show", "right")
    assert count(page) == "60 of 150 items"
    page.select_option("#first", label="parent")
    assert count(page) == "50 of 150 items"
    assert page.locator("#item thead th").all_inner_texts() == ["Choice", "parent"]


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_nothing_is_wider_than_the_window(browser: Any, file: Path, width: int) -> None:
    context = browser.new_context(offline=True, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
