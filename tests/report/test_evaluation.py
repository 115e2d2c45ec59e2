"""The page of evaluations: what it says without scripts, and what the data in it holds."""

import json
import re
from dataclasses import replace

import pytest

from cuvee.errors import EvaluationError
from cuvee.evaluation.report import Figure
from cuvee.report import render_evaluation, short_names
from cuvee.report.evaluation import probability

from .evaluations import evaluated
from .test_page import HOSTILE, Page

pytest.importorskip("jinja2")

STRONG = evaluated("runs/strong", right=[True] * 9 + [False])
WEAK = evaluated("runs/weak", right=[False] * 9 + [True], texts=("a", "q", "e f"))
THIRD = evaluated("runs/third", right=[True, False] * 5)


@pytest.fixture(scope="module")
def html() -> str:
    return render_evaluation([STRONG, WEAK, THIRD])


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def data(page: Page) -> dict[str, object]:
    found: dict[str, object] = json.loads(page.scripts[0])
    return found


def test_the_page_is_closed_and_loads_nothing(page: Page) -> None:
    assert page.open == []
    places = [tag[name] for _, tag in page.tags for name in ("src", "href", "action") if name in tag]
    assert {place for place in places if not place.startswith("#")} == {"data:,"}
    assert not re.search(r"@import|url\(|https?:|fetch|import\(|innerHTML|eval\(", page.styles[0] + page.scripts[1])
    assert not any("style" in attributes for _, attributes in page.tags)


def test_scores_differences_and_ranks_show_without_scripts(page: Page) -> None:
    for model in (STRONG, WEAK, THIRD):
        for task in model.report.tasks:
            score = task.scores[0]
            assert f"{100 * score.value:.1f}" in page.text
            assert f"{100 * score.low:.1f}–{100 * score.high:.1f}" in page.text
    assert "+80.0" in page.text
    assert "9 won, 1 lost of 10" in page.text
    assert len([drawing for drawing in page.all("svg") if drawing.get("role") == "img"]) == 9


def test_a_single_model_has_no_differences_and_no_ranks() -> None:
    page = Page(render_evaluation([STRONG]))
    assert page.open == []
    assert "Differences" not in page.text
    assert "Ranks" not in page.text


def test_figures_of_whole_tasks_and_groups_show_on_their_own_scale() -> None:
    perplexity = Figure("wiki", "word_perplexity", 62, 14.25391, 0.0317)
    group = Figure("mmlu", "acc", 300, 0.4125, None)
    told = replace(STRONG, report=replace(STRONG.report, groups=(perplexity, group)))
    page = Page(render_evaluation([told, WEAK]))
    assert page.open == []
    assert "wiki word_perplexity 14.25 ± 0.0317 62 items –" in " ".join(page.text.split())
    assert "mmlu acc 0.4125 300 items –" in " ".join(page.text.split())
    assert "Figures" not in Page(render_evaluation([WEAK])).text


def test_the_data_hold_every_item_and_every_answer(page: Page) -> None:
    found = data(page)
    assert found["models"] == ["strong", "weak", "third"]
    places, texts = found["tasks"]  # type: ignore[misc]  # JSON
    assert [item["id"] for item in places["items"]] == [f"q{place}" for place in range(10)]
    assert [answer["metrics"]["accuracy"] for answer in places["answers"][1]] == [0.0] * 9 + [1.0]
    assert texts["answers"][0][0] == {
        "prediction": "a b", "metrics": {"f1": 1.0}, "text": "well, a b", "extracted": "a b"
    }  # fmt: skip


def test_no_text_of_an_item_is_markup(html: str, page: Page) -> None:
    assert len(page.all("script")) == 2
    assert "<b>Moon" not in html
    assert "<script>alert" not in html
    assert page.all("i") == []


def test_names_stay_names() -> None:
    named = replace(STRONG, report=replace(STRONG.report, model=HOSTILE))
    page = Page(render_evaluation([named, WEAK], names=[HOSTILE, "b"]))
    assert (page.all("img"), len(page.all("script"))) == ([], 2)


def test_items_without_scores_can_be_browsed() -> None:
    bare = tuple(replace(task, scores=()) for task in STRONG.report.tasks)
    page = Page(render_evaluation([replace(STRONG, report=replace(STRONG.report, tasks=bare, macro=None))]))
    assert "Item by item" in page.text
    assert "Scores by task" not in page.text


def test_evaluations_of_other_items_are_not_put_side_by_side() -> None:
    with pytest.raises(EvaluationError, match="different items"):
        render_evaluation([STRONG, evaluated("short", right=[True])])


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["a/x", "b/x"], ["a/x", "b/x"]),
        (["a/x", "a/y"], ["x", "y"]),
        (["x", "x"], ["x (1)", "x (2)"]),
        (["org/a", "a"], ["org/a", "a"]),
    ],
)
def test_models_are_named_by_what_tells_them_apart(models: list[str], names: list[str]) -> None:
    assert short_names(models) == names


@pytest.mark.parametrize(("share", "text"), [(0.0, "< 1 %"), (0.5, "50 %"), (0.996, "> 99 %")])
def test_no_probability_is_certain(share: float, text: str) -> None:
    assert probability(share) == text
