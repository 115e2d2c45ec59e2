"""The page of a search: everything is on it, it loads nothing, and it is inert whatever a recipe says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from cuvee.report.search import honesty, render_search, settings, summary
from cuvee.report.search_charts import amount, panels, parallel, plane, progress, round_ticks
from cuvee.search.choice import Optimism
from cuvee.search.report import Candidate, Curve, Dimension, SearchReport

from .searches import running, searched
from .test_page import HOSTILE, Page


@pytest.fixture(scope="module")
def report() -> SearchReport:
    return searched()


@pytest.fixture(scope="module")
def html(report: SearchReport) -> str:
    return render_search(report)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_tag_is_closed_and_every_link_has_its_place(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(each["href"]) for each in page.all("a")]
    assert len(links) == 8
    assert {link.removeprefix("#") for link in links} <= set(ids)
    labels = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(labels) <= set(ids)


def test_the_verdict_and_the_three_scores_are_there(report: SearchReport, page: Page) -> None:
    choice = report.choice
    assert choice is not None
    assert choice.found
    assert choice.verdict in page.text
    assert "Search 79.2" in page.text
    assert "Report 82.0" in page.text
    assert "by luck alone" in page.text
    assert report.recipe.strip("\n") in page.preformatted


def test_every_candidate_is_in_the_table_with_its_reason(report: SearchReport, page: Page) -> None:
    for candidate in report.candidates:
        assert candidate.name in page.text
        assert candidate.reason in page.text
    assert "three workers ended while they measured it" in page.text


def test_a_search_that_found_nothing_says_so_and_gives_the_anchor() -> None:
    report = searched(seed=3, gain=0.0)
    text = Page(render_search(report)).text
    assert report.choice is not None
    assert not report.choice.found
    assert "The search found nothing better than the best default, task_arithmetic at 0.5" in text
    assert "Of task_arithmetic at 0.5. Anybody who merges it gets the same bytes." in text


def test_only_the_page_of_a_running_search_loads_itself_anew(report: SearchReport, html: str) -> None:
    unfinished = running(report)
    refreshed = Page(render_search(unfinished, refresh_seconds=5))
    assert [each["content"] for each in refreshed.all("meta") if each.get("http-equiv") == "refresh"] == ["5"]
    assert "Running: Five small experts, one recipe" in refreshed.text
    assert "Best so far: candidate 34" in refreshed.text
    assert "How much was luck" not in refreshed.text
    assert 'http-equiv="refresh"' not in render_search(unfinished)
    assert render_search(report, refresh_seconds=5) == html
    stopped = Page(render_search(replace(unfinished, phase="interrupted"), refresh_seconds=5)).text
    assert "Stopped" in stopped
    assert "Running" not in stopped


def test_a_search_that_has_just_started_has_a_page(report: SearchReport) -> None:
    first = replace(running(report), candidates=(), recipe="")
    text = Page(render_search(first)).text
    assert "No candidate has answered all search items yet." in text
    assert "0 candidates were tried" in text


def test_a_search_without_a_candidate_says_that_there_is_nothing_to_compare(report: SearchReport) -> None:
    anchors = replace(running(report), phase="finished", candidates=report.candidates[:4])
    text = Page(render_search(anchors)).text
    assert "Finished The search measured no candidate beside its anchors, so there is nothing to compare." in text


def test_the_same_report_gives_the_same_page(report: SearchReport, html: str) -> None:
    assert render_search(searched()) == html


def test_hostile_text_stays_text(report: SearchReport) -> None:
    assert report.front is not None
    candidates = tuple(
        replace(each, name=f"{each.name} {HOSTILE}", method=HOSTILE, reason=HOSTILE) for each in report.candidates
    )
    hostile = replace(
        report,
        title=HOSTILE,
        models=(HOSTILE,),
        candidates=candidates,
        recipe=HOSTILE,
        curves=(Curve(HOSTILE, HOSTILE, (0.1, 0.2)),),
        importance={HOSTILE: 1.0},
        front=replace(report.front, objectives=(HOSTILE, HOSTILE)),
        warnings=(HOSTILE,),
        budget=HOSTILE,
        sampler=HOSTILE,
    )
    page = Page(render_search(hostile))
    assert page.open == []
    assert len(page.scripts) == 1
    assert page.all("img") == []
    assert page.preformatted == [HOSTILE]


def test_what_luck_adds_is_said_both_ways(report: SearchReport) -> None:
    assert report.choice is not None
    lucky = replace(report.choice, optimism=Optimism(0.027, -0.004, 0.058))
    assert "the search's own figure is 2.7 points too high (95 % interval −0.4 to +5.8)" in honesty(lucky)
    assert "here the search's own figure is not too high, −2.8 points" in honesty(report.choice)


def test_the_line_of_the_best_only_rises(report: SearchReport) -> None:
    chart = progress(report)
    assert chart is not None
    heights = [float(step.split("H")[0]) for step in chart.best.split("V")[1:]]
    assert heights == sorted(heights, reverse=True)
    assert len(chart.measured) + len(chart.dropped) == len(report.candidates) - 1
    assert all(46 <= x <= 886 and 0 < y <= 268 for x, y, _ in (*chart.measured, *chart.dropped, *chart.selected))


def test_what_is_off_the_scale_is_drawn_under_it(report: SearchReport) -> None:
    chart = progress(report)
    assert chart is not None
    under = [note for _, y, note in chart.measured if y > chart.floor]
    assert under == ["base: 39.8"]


def candidate(number: int, method: str, value: float, **parameters: float | str) -> Candidate:
    return Candidate(number, f"candidate {number}", method, parameters, "measured", value, 0.0, 400, 9600, 2.0)


def test_arms_share_the_axes_that_they_have(report: SearchReport) -> None:
    dimensions = (
        Dimension("lambda", 0.1, 10.0, logarithmic=True),
        Dimension("density", choices=("0.2", "0.5")),
        Dimension("rank", 0.0, 1.0),
    )
    candidates = (
        candidate(1, "dare", 0.5, **{"lambda": 1.0, "density": "0.5", "rank": 0.0}),
        candidate(2, "tsv_m", 0.6, **{"lambda": 10.0, "rank": 1.0}),
    )
    chart = parallel(replace(report, dimensions=dimensions, candidates=candidates, choice=None))
    assert chart is not None
    assert [axis.name for axis in chart.axes] == ["method", "lambda", "density", "rank", "score"]
    worse, best = chart.lines
    assert (worse.highlighted, best.highlighted) == (False, True)
    heights = [float(place.split(",")[1]) for place in worse.pieces[0].split()]
    middle = (chart.top + chart.bottom) / 2
    assert heights == [chart.bottom, middle, chart.top, chart.bottom, chart.bottom]
    assert [len(piece.split()) for piece in best.pieces] == [2, 2]


def test_candidates_without_a_dimension_are_not_drawn(report: SearchReport) -> None:
    candidates = (candidate(1, "dare", 0.5, rank=0.5), candidate(2, "tsv_m", 0.6, scale=1.0))
    dimensions = (Dimension("rank", 0.0, 1.0),)
    chart = parallel(replace(report, dimensions=dimensions, candidates=candidates, choice=None))
    assert chart is not None
    assert [line.note for line in chart.lines] == ["candidate 1: 50.0"]
    assert [axis.name for axis in chart.axes] == ["rank", "score"]


def test_curves_share_one_scale() -> None:
    first, second = panels([Curve("sort", "all", (1.0,)), Curve("shift", "all", (0.5, 0.5, -0.5))])
    assert first.levels == second.levels
    (_, level), (_, falling) = first.lines[0], second.lines[0]
    assert len({place.split(",")[1] for place in level.split()}) == 1
    assert [place.split(",")[0] for place in falling.split()] == ["34.0", "113.0", "192.0"]


def test_the_front_has_an_edge(report: SearchReport) -> None:
    assert report.front is not None
    chart = plane(report.front)
    assert chart is not None
    assert len(chart.outer) + len(chart.near) == len(report.front.points)
    assert chart.edge.count("V") == len(chart.outer)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)), (0.634, 0.71, (0.64, 0.66, 0.68, 0.7)), (0.5, 0.5, (0.5,))],
)
def test_ticks_are_round(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert round_ticks(low, high, 5) == ticks


def test_models_are_named_by_the_ends_of_their_paths(report: SearchReport) -> None:
    placed = replace(report, base="models/base", models=("models/sort", "models/shift"))
    assert summary(placed).startswith("Recipes that blend base with sort and shift, scored on 5 tasks.")


def test_numbers_are_written_for_people(report: SearchReport) -> None:
    assert [amount(number) for number in (0, 999, 9600, 1_283_000)] == ["0", "999", "9.6k", "1.28M"]
    assert settings(candidate(1, "dare", 0.5, density="0.5", rank=0.123456)) == "density 0.5 · rank 0.1235"
    assert summary(replace(report, tasks=report.tasks[:1])).startswith(
        "Recipes that blend base with arith, logic, sort, reverse and shift, scored on one task. 140 candidates"
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, report = tmp_path_factory.mktemp("pages"), searched(candidates=40)
    unfinished = running(report, candidates=30)
    pages = {"finished": render_search(report), "running": render_search(unfinished, refresh_seconds=3600)}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.mark.parametrize("name", ["finished", "running"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_in_a_browser_it_passes_axe_and_fits_a_phone(
    browser: Any, files: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe, of the dev extra, is not installed")
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 900})
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or problems.append(asked.url))
    tab.goto(files[name].as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    # A live page has to load itself anew; whoever does not want that opens it without --watch.
    options = {"rules": {"meta-refresh": {"enabled": False}, "meta-refresh-no-exceptions": {"enabled": False}}}
    violations = axe.Axe().run(tab, options=options).response["violations"]
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in violations] == []
    context.close()


def test_the_table_is_sorted_by_a_click(browser: Any, files: dict[str, Path]) -> None:
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.goto(files["finished"].as_uri())
    tab.get_by_role("button", name="Candidate").click()
    assert tab.locator(".candidates tbody tr").first.locator("th").inner_text().startswith("sort")
    context.close()


def test_a_running_page_follows_its_file(browser: Any, tmp_path: Path, report: SearchReport, html: str) -> None:
    place = tmp_path / "index.html"
    place.write_text(render_search(running(report), refresh_seconds=1), encoding="utf-8")
    context = browser.new_context(offline=True, java_script_enabled=False)
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.goto(place.as_uri())
    place.write_text(html, encoding="utf-8")
    tab.get_by_role("heading", name="How much was luck").wait_for()
    context.close()
