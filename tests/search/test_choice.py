"""The winner's choice: what is decided on which items, and how often the report is right."""

from typing import NamedTuple

import numpy as np
import pytest

from cuvee.evaluation.statistics import average
from cuvee.search.choice import Choice, Pick, choose, expected_maximum, luck_alone, optimism, pick
from cuvee.search.racing import paired_differences, relative_radius

from .simulated import Array, answers, at_most

TASKS = {"sort": 1.0, "shift": 1.0}
NULL_RUNS, COVERED_RUNS = 400, 1000

Named = dict[str, dict[str, list[float]]]


def named(names: list[str], tasks: dict[str, Array], places: list[int]) -> Named:
    return {names[i]: {task: scores[i].tolist() for task, scores in tasks.items()} for i in places}


def right(count: int, of: int = 100) -> dict[str, list[float]]:
    return {"sort": [1.0] * count + [0.0] * (of - count)}


WEIGHTS = {"sort": 1.0}
ANCHORS = {"base": "parent", "average": "default"}
PICKED = Pick("7", "4", "base", "average")


def test_the_best_on_the_select_items_wins_whatever_the_search_said() -> None:
    search = {"4": right(90), "7": right(80), "base": right(50), "average": right(60)}
    select = {"4": right(70), "7": right(75), "base": right(50), "average": right(60)}
    assert pick(search, select, WEIGHTS, ANCHORS) == PICKED


def test_of_equals_the_nearest_to_the_defaults_wins() -> None:
    scores = {"4": right(70), "7": right(70), "base": right(50)}
    anchors = {"base": "parent"}
    assert pick(scores, scores, WEIGHTS, anchors, distances={"4": 2.0, "7": 1.0}).winner == "7"
    assert pick(scores, scores, WEIGHTS, anchors).winner == "4"
    assert pick(scores, scores, WEIGHTS, anchors).best_default is None


def test_the_best_anchors_are_chosen_on_both_parts() -> None:
    search = {"4": right(90), "base": right(50), "sort": right(60), "average": right(1)}
    select = {"4": right(90), "base": right(50), "sort": right(45), "average": right(1)}
    anchors = {"base": "parent", "sort": "parent", "average": "default"}
    assert pick(search, select, WEIGHTS, anchors).best_parent == "sort"


def report_of(**scores: int) -> Choice:
    search = {"4": right(90), "7": right(80), "base": right(50), "average": right(60)}
    return choose(PICKED, search, search, {name.strip("n"): right(n) for name, n in scores.items()}, WEIGHTS)


def test_a_clear_gain_is_found() -> None:
    choice = report_of(n4=72, n7=75, base=50, average=60)
    assert (choice.found, choice.winner) == (True, "7")
    assert choice.search.value == 0.8
    assert choice.report.value == 0.75
    assert choice.optimism.value == pytest.approx(0.05)
    assert choice.optimism.low == pytest.approx(0.8 - choice.report.high)
    assert choice.verdict == (
        "The search found a better recipe: 7 beats the best parent, base, by 25.0 points (95 % interval +15.9 to "
        "+33.1) and the best default, average, by 15.0 points (95 % interval +7.6 to +21.8), on items that nothing was "
        "chosen on."
    )
    assert [versus.role for versus in choice.against] == ["best parent", "best default", "runner-up"]


def test_a_gain_that_may_be_chance_is_nothing_found() -> None:
    choice = report_of(n4=72, n7=62, base=50, average=61)
    assert (choice.found, choice.winner, choice.picked) == (False, "average", "7")
    assert choice.verdict.startswith("The search found nothing better than the best default, average: 7 differs from")
    assert "by +1.0 points" in choice.verdict


def test_a_winner_that_is_behind_says_so() -> None:
    choice = report_of(n4=72, n7=40, base=50, average=30)
    assert (choice.found, choice.winner) == (False, "base")
    assert "7 is behind it by 10.0 points (95 % interval +" in choice.verdict


def test_report_tasks_may_have_names_of_their_own() -> None:
    search = {"7": right(80), "base": right(50)}
    private = {name: {"sort-private": scores["sort"]} for name, scores in search.items()}
    picked = Pick("7", None, "base", None)
    choice = choose(picked, search, search, private, WEIGHTS, report_weights={"sort-private": 1.0})
    assert choice == choose(picked, search, search, search, WEIGHTS)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ({"7": right(80), "base": right(50)}, "no scores on the report items of average, 4"),
        ({"4": right(1), "7": right(80), "base": right(50, 90), "average": right(1)}, "scores of different items"),
        ({"4": right(1), "7": {"sort": [-2.5] * 100}, "base": right(50), "average": right(1)}, "between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(report: Named, text: str) -> None:
    scores = {"4": right(90), "7": right(80), "base": right(50), "average": right(60)}
    with pytest.raises(ValueError, match=text):
        choose(PICKED, scores, scores, report, WEIGHTS)


def test_a_search_without_candidates_picks_nobody() -> None:
    with pytest.raises(ValueError, match="a candidate and an anchor"):
        pick({"base": right(50)}, {"base": right(50)}, WEIGHTS, {"base": "parent"})


def test_other_answers_to_the_report_items_change_nothing_of_search_and_selection() -> None:
    generator = np.random.default_rng(0)
    names = ["4", "7", "base", "average"]
    chance = np.array([0.8, 0.8, 0.5, 0.6])
    search, select, report = (
        named(names, {task: answers(chance, 60, generator) for task in TASKS}, [0, 1, 2, 3]) for _ in range(3)
    )
    picked = pick(search, select, TASKS, ANCHORS)
    flipped = {n: {t: [1 - value for value in values] for t, values in s.items()} for n, s in report.items()}
    first, second = (choose(picked, search, select, each, TASKS) for each in (report, flipped))
    for name in ("picked", "search", "select", "luck", "measured"):
        assert getattr(first, name) == getattr(second, name)
    assert first.report != second.report
    assert [(versus.role, versus.name) for versus in first.against] == [(v.role, v.name) for v in second.against]


def test_the_largest_of_many_normals() -> None:
    assert expected_maximum(1) == pytest.approx(0.0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(1 / np.sqrt(np.pi), rel=1e-6)
    largest = np.random.default_rng(0).standard_normal((40_000, 100)).max(axis=1)
    assert expected_maximum(100) == pytest.approx(largest.mean(), abs=4 * largest.std() / 200)


def test_luck_alone_is_what_the_best_of_equals_gains() -> None:
    generator = np.random.default_rng(1)
    gains, stated = [], []
    for _ in range(1500):
        scores = {task: answers(np.full(40, 0.6), 80, generator) for task in TASKS}
        means = sum(each.mean(axis=1) for each in scores.values()) / 2
        gains.append(means.max() - 0.6)
        stated.append(luck_alone([{task: each[i] for task, each in scores.items()} for i in range(40)], TASKS))
    assert np.mean(stated) == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(1500) + 0.001)


def test_one_candidate_alone_has_no_luck() -> None:
    assert luck_alone([right(50)], WEIGHTS) == 0.0


class Searched(NamedTuple):
    """A whole search: who was measured on what, who was picked, and the share of items that racing saved."""

    measured: Named
    finalists: Named
    reported: Named
    picked: Pick
    saved: float

    def choice(self) -> Choice:
        candidates = {name: scores for name, scores in self.measured.items() if name not in ANCHORS}
        return choose(self.picked, candidates, self.finalists, self.reported, TASKS)


def searched(chance: Array, generator: np.random.Generator, *, racing: bool = True) -> Searched:
    """Measure two anchors, race the others in rounds of ten, select among the best five."""
    names = ["base", "average", *map(str, range(2, len(chance)))]
    search, select, report = ({task: answers(chance, items, generator) for task in TASKS} for items in (75, 60, 150))
    means = sum(each.mean(axis=1) for each in search.values())
    whole, used, incumbent = [0, 1], 0, int(np.argmax(means[:2]))
    for start in range(2, len(chance), 10):
        running = np.arange(start, min(start + 10, len(chance)))
        for seen, more in ((25, 25), (38, 13), (50, 12), (63, 13), (75, 12)):
            used += 2 * more * len(running)
            pairs = [each[running, :seen] - each[incumbent, :seen] for each in search.values()]
            paired = paired_differences(pairs, [1.0, 1.0])
            if seen < 75 and racing:
                running = running[paired.difference + paired.widened * relative_radius(2 * seen) >= 0]
        whole += running.tolist()
        incumbent = max(whole, key=lambda place: means[place])
    top = sorted(whole[2:], key=lambda place: -means[place])[:5]
    measured, finalists = named(names, search, whole), named(names, select, [0, 1, *top])
    picked = pick(measured, finalists, TASKS, ANCHORS)
    reported = named(names, report, [names.index(name) for name in picked.reported])
    return Searched(measured, finalists, reported, picked, 1 - used / (150 * (len(names) - 2)))


@pytest.mark.slow  # 400 searches
def test_a_search_among_equals_finds_nothing() -> None:
    found = 0
    for seed in range(NULL_RUNS):
        found += searched(np.full(32, 0.6), np.random.default_rng(seed)).choice().found
    assert at_most(found, NULL_RUNS) <= 0.05


def test_a_gain_of_fifteen_points_is_found_and_most_of_the_bad_is_saved() -> None:
    chance = np.array([0.5, 0.55, 0.75, *[0.35] * 29])
    found, saved = [], []
    for seed in range(50):
        search = searched(chance, np.random.default_rng(seed))
        choice = search.choice()
        found.append(choice.found and choice.winner == "2")
        saved.append(search.saved)
    assert np.mean(found) > 0.9
    assert np.mean(saved) > 0.4


def test_racing_costs_nothing_of_what_is_picked() -> None:
    lost = []
    for seed in range(200):
        chance = np.concatenate([[0.5, 0.55], surrogate(np.random.default_rng(seed).uniform(-1, 1, (40, 3)))])
        picked = [
            searched(chance, np.random.default_rng(1000 + seed), racing=racing).picked.winner
            for racing in (False, True)
        ]
        whole, raced = (chance[int(name)] for name in picked)
        lost.append(whole - raced)
    assert np.mean(lost) < 0.002
    assert np.mean(np.array(lost) == 0) > 0.8


@pytest.mark.slow  # 1,000 searches
def test_the_optimism_holds_the_truth_ninety_five_times_of_a_hundred() -> None:
    covered, truths = 0, []
    weights = list(TASKS.values())
    for seed in range(COVERED_RUNS):
        generator = np.random.default_rng(seed)
        chance = np.concatenate([[0.45, 0.5], surrogate(generator.uniform(-1, 1, (30, 3)))])
        search = searched(chance, generator)
        winner = search.picked.winner
        first, last = search.measured[winner], search.reported[winner]
        score = average(list(first.values()), weights)
        interval = optimism(score, average(list(last.values()), weights))
        truth = score.value - chance[int(winner)]
        covered += interval.low <= truth <= interval.high
        truths.append(truth)
    assert 0.93 <= covered / COVERED_RUNS <= 0.97
    assert np.mean(truths) > 4 * np.std(truths) / np.sqrt(COVERED_RUNS)


def surrogate(place: Array) -> Array:
    """A smooth function of three parameters, [candidates], that is best at zero."""
    value: Array = 0.75 - 0.12 * np.sum(place**2, axis=1)
    return value
