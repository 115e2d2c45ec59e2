"""The heat map: legible for everyone, and marking what it says it marks."""

import re
from importlib import resources

import pytest

from cuvee.report.heat import DARK, LIGHT, Shade, heat_css, heat_map, heat_step, side_step

from .boards import board


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def theme_colours() -> list[dict[str, str]]:
    css = (resources.files("cuvee.report") / "look.css").read_text()
    light, dark = css.split("@media")[:2]
    return [dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in (light, dark)]


def test_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("shade", LIGHT + DARK)
def test_cells_are_legible(shade: Shade) -> None:
    assert contrast(shade.background, shade.text) >= 4.5


def test_lightness_alone_tells_the_steps_apart() -> None:
    light, dark = ([luminance(shade.background) for shade in shades] for shades in (LIGHT, DARK))

    assert light == sorted(light, reverse=True)
    assert dark == sorted(dark)


@pytest.mark.parametrize("text", ["ink", "quiet", "wine"])
@pytest.mark.parametrize("background", ["paper", "surface"])
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_is_legible_in_both_themes(theme: int, background: str, text: str) -> None:
    colours = theme_colours()[theme]

    assert contrast(colours[background], colours[text]) >= 4.5


@pytest.mark.parametrize(
    ("fraction", "step"), [(-0.1, 0), (0.0, 0), (0.0994, 0), (0.0996, 1), (0.3, 3), (0.5, 5), (0.999, 9), (1.0, 9)]
)
def test_a_step_covers_ten_printed_points(fraction: float, step: int) -> None:
    assert heat_step(fraction) == step


def test_both_themes_have_a_rule_for_every_step() -> None:
    assert all(heat_css().count(f".h{step} {{") == 2 for step in range(10))


def test_groups_hold_parents_as_given_and_blends_ranked() -> None:
    parents, blends, references = heat_map(board(reference=True), "private")

    assert [entry.name for entry, _ in parents.lines] == ["base", "arith", "logic", "sort", "reverse", "shift"]
    assert [entry.name for entry, _ in blends.lines][:2] == ["tsv_m, rank 2/3", "task arithmetic 0.5"]
    assert [entry.name for entry, _ in references.lines] == ["multitask"]


def test_each_expert_has_its_own_skill_marked() -> None:
    parents = heat_map(board(), "private")[0]

    assert [[cell.own for cell in cells].index(True) for _, cells in parents.lines[1:]] == [1, 2, 3, 4, 5]
    assert not any(cell.own for cell in parents.lines[0][1])


def test_the_best_of_each_column_is_marked_once_in_each_group() -> None:
    for group in heat_map(board(), "private"):
        marks = [[cell.best for cell in cells] for _, cells in group.lines]
        assert [sum(column) for column in zip(*marks, strict=True)] == [1, 1, 1, 1, 1, 1]


def test_a_group_of_one_has_no_best() -> None:
    ((_, cells),) = heat_map(board(reference=True), "private")[2].lines

    assert not any(cell.best for cell in cells)


def test_the_public_map_shows_public_figures() -> None:
    entry, cells = heat_map(board(), "public")[0].lines[0]

    assert [cell.figure for cell in cells] == [entry.public, *entry.public_tasks.values()]


@pytest.mark.parametrize(
    ("distance", "step"), [(-2.0, 0), (-0.5, 0), (-0.06, 4), (0.0, 5), (0.04, 5), (0.2, 7), (0.5, 10), (9.0, 10)]
)
def test_steps_from_the_middle_are_as_many_on_both_sides(distance: float, step: int) -> None:
    assert side_step(distance, 0.5) == step
