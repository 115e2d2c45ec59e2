"""The page of a comparison: every figure is in it, nothing is loaded, and names stay names."""

import re

import numpy as np
import pytest

from cuvee.amounts import MINUS
from cuvee.checkpoint import MemoryCheckpoint
from cuvee.comparison import Comparison, compare_checkpoints
from cuvee.report import render_comparison
from cuvee.report.comparison import cosine, percent, sections, step_of
from cuvee.report.layer_grid import layer_grid
from cuvee.report.template import content_hash

from .test_page import HOSTILE, Page

pytest.importorskip("jinja2")


def comparison(labels: list[str], layers: int = 3) -> Comparison:
    generator = np.random.default_rng(0)
    names = [f"layers.{i}.{role}.weight" for i in range(layers) for role in ("up", "norm")] + ["head.weight"]
    models = [{name: generator.standard_normal(30) for name in names} for _ in labels]
    models[1] |= {name: array for name, array in models[0].items() if name == "layers.0.norm.weight"}
    return compare_checkpoints([MemoryCheckpoint(model) for model in models], labels)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return comparison(["base", "a", "b"])


@pytest.fixture(scope="module")
def page(found: Comparison) -> Page:
    return Page(render_comparison(found))


def test_every_figure_of_every_cell_is_in_the_page(found: Comparison, page: Page) -> None:
    for group in (*found.cells, found.roles[-1]):
        place = f"{group.layer} {group.role}" if group.layer else group.role
        figures = group.figures
        for text in (
            percent(figures.models[0].relative_norm),
            cosine(figures.pairs[0].cosine),
            percent(figures.pairs[0].sign_conflict),
            percent(figures.pairs[0].overlap),
        ):
            assert f"{place}: {text}" in page.text


def test_what_is_undefined_has_no_shade(page: Page) -> None:
    undefined = [shape for shape in page.all("rect") if shape["class"] == "undefined"]
    assert len(undefined) == 2  # the cosine and the sign conflict with a tensor that is as in the base


def test_the_page_is_closed_and_loads_nothing(page: Page) -> None:
    assert page.open == []
    places = [link[name] for _, link in page.tags for name in ("src", "href", "data", "action") if name in link]
    assert {place for place in places if not place.startswith("#")} == {"data:,"}
    assert not re.search(r"@import|url\(|https?:", page.styles[0])
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert f"style-src '{content_hash(page.styles[0])}'" in policy
    assert page.all("script") == []


def test_labels_have_room_and_numbers_do_not_run_into_each_other() -> None:
    grid = layer_grid(comparison(["base", "a"], layers=12))
    assert min(label.x - 7.3 * len(label.text) for label in grid.roles) > 0, "letters of 12 pixels are 7.3 wide"
    assert [label.text for label in grid.layers] == ["0", "4", "8"]


def test_figures_with_two_sides_have_their_middle_in_the_middle() -> None:
    found = comparison(["base", "a", "b"])
    grid = layer_grid(found)
    by_key = {section.key: section for section in sections(found, grid)}
    signed = by_key["cosine"]
    assert signed.colours == tuple(f"d{step}" for step in range(11))
    assert signed.low == f"{MINUS}{signed.high}"
    conflict = by_key["conflict"]
    assert (conflict.low, conflict.high) == ("0 %", "100 %")
    for shade in signed.maps[0].shades:
        assert shade.is_below == (shade.colour is not None and int(shade.colour[1:]) < 5)
    assert by_key["norm"].colours[0] == "h0"


def test_names_stay_names() -> None:
    page = Page(render_comparison(comparison(["base", HOSTILE, "b"])))
    assert page.all("script") == page.all("img") == []
    assert " ".join(HOSTILE.split()) in page.text


@pytest.mark.parametrize("layers", [0, 1, 8, 40])
def test_drawings_hold_all_their_cells(layers: int) -> None:
    page = Page(render_comparison(comparison(["base", "a"], layers)))
    (svg,) = page.all("svg")
    cells = page.all("rect")
    assert len(cells) == 2 * layers + 1
    assert max(float(c["x"]) + float(c["width"]) for c in cells) <= float(svg["width"])
    assert max(float(c["y"]) + 16 for c in cells) <= float(svg["height"])
    assert len({(c["x"], c["y"]) for c in cells}) == len(cells)


@pytest.mark.parametrize(("value", "step"), [(-1.0, 0), (0.0, 5), (0.99, 9), (1.0, 9)])
def test_a_scale_has_ten_steps(value: float, step: int) -> None:
    assert step_of(value, -1.0, 1.0) == step


def test_a_scale_without_length_has_one_step() -> None:
    assert step_of(0.0, 0.0, 0.0) == 0
