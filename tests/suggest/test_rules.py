"""Rules: those committed are what the table gives, errors are on families left out, what does not predict is unsaid."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest

from cuvee.suggest.advice import advice_of, unanswered
from cuvee.suggest.changes import Changes, features_of
from cuvee.suggest.measured import Case, Line, measured_cases, read_families
from cuvee.suggest.rules import QUESTIONS, Question, all_rules, fit, fit_all, read_rules

CASES = measured_cases()


def case(family: str, cosine: float) -> Case:
    """Return a case of two experts, of which only the cosine tells them apart from others."""
    changes = Changes(("a", "b"), (0.1, 0.1), (4.0, 4.0), (cosine,), (0.5,), (0.2,))
    line = Line((0.5, 1.0), (0.6, 0.5))
    return Case(family, changes, (0.2, 0.2), (0.9, 0.9), {"task_arithmetic": line}, (0.6, 0.6))


def cases(families: int = 3) -> list[Case]:
    generator = np.random.default_rng(0)
    return [case(f"family {n}", cosine) for n in range(families) for cosine in generator.uniform(-0.5, 0.9, 8)]


def question(answer: Callable[[Case], float | None]) -> Question:
    return Question("asked", answer, (("coherence",),))


def test_the_committed_rules_are_those_that_the_committed_table_gives() -> None:
    fitted, committed = fit_all(CASES), all_rules()
    assert [rule.question for rule in fitted] == [rule.question for rule in committed]
    for own, other in zip(fitted, committed, strict=True):
        assert numbers(asdict(own)) == pytest.approx(numbers(asdict(other)), abs=2e-5)


def numbers(entry: dict[str, object]) -> list[float]:
    """Return all numbers of a rule, in order."""
    flat: list[float] = []
    for value in entry.values():
        if isinstance(value, dict):
            flat += numbers(value)
        elif isinstance(value, tuple):
            flat += value
        elif not isinstance(value, str):
            flat.append(float(value))  # type: ignore[arg-type]  # a number
    return flat


def test_several_families_are_measured() -> None:
    assert len({own.family for own in CASES}) >= 2
    assert {own.family for own in CASES} == set(read_families())


def test_a_rule_that_holds_everywhere_has_no_error_on_families_left_out() -> None:
    rule = fit(question(lambda own: 0.3 - 0.7 * features_of(own.changes)["coherence"]), ("coherence",), cases())
    assert rule.error == pytest.approx(0, abs=1e-9)
    assert rule.rival_error > 0.05
    assert rule.predicts
    assert rule.coefficients == pytest.approx({"constant": 0.3, "coherence": -0.7})


def test_a_rule_that_holds_in_each_family_otherwise_does_not_predict() -> None:
    slopes = {"family 0": -2.0, "family 1": 0.0, "family 2": 2.0}
    rule = fit(question(lambda own: slopes[own.family] * own.changes.cosine), ("coherence",), cases())
    assert not rule.predicts


def test_noise_is_not_predicted() -> None:
    own_cases, generator = cases(), np.random.default_rng(1)
    noise = {id(own): generator.standard_normal() for own in own_cases}
    rule = fit(question(lambda own: noise[id(own)]), ("coherence",), own_cases)
    assert not rule.predicts


def test_a_scale_that_costs_more_than_the_mean_is_not_said() -> None:
    rule = fit(question(lambda own: features_of(own.changes)["coherence"]), ("coherence",), cases())
    assert rule.predicts
    assert not replace(rule, cost=0.02, rival_cost=0.01).predicts


def test_errors_are_worked_by_hand() -> None:
    """Family 0 answers 0, family 1 answers 1: on either, the mean of the other is off by 1."""
    rule = fit(question(lambda own: float(own.family[-1])), (), cases(families=2))
    assert (rule.error, rule.rival_error, rule.mean) == pytest.approx((1, 1, 0.5))


def test_a_case_without_an_answer_does_not_count() -> None:
    rule = fit(question(lambda own: own.changes.cosine if own.changes.cosine > 0 else None), ("coherence",), cases())
    assert rule.cases == sum(own.changes.cosine > 0 for own in cases())


def test_only_rules_that_predict_are_said_and_each_has_its_errors() -> None:
    changes = CASES[0].changes
    rules = read_rules()
    advice = advice_of(changes, rules)
    assert {entry.question for entry in advice} == {
        name for name, own in rules.items() if any(rule.answer(changes) is not None for rule in own)
    }
    assert all(entry.error < entry.rival_error for entry in advice)
    assert set(unanswered(advice)) == {question.name for question in QUESTIONS} - {entry.question for entry in advice}


def test_a_rule_that_needs_texts_is_silent_without_them() -> None:
    with_texts = next(own.changes for own in CASES)
    without = replace(with_texts, losses=())
    needy = [rule for rule in all_rules() if "harm" in rule.coefficients]
    assert all(rule.answer(with_texts) is not None for rule in needy)
    assert all(rule.answer(without) is None for rule in needy)


@pytest.mark.parametrize(
    ("cosines", "words"),
    [
        ((0.02, -0.05, 0.1), "nearly orthogonal"),
        ((0.3, 0.5, 0.4), "pull the same way"),
        ((-0.2, -0.3, -0.4), "pull against each other"),
        ((0.0, 0.0, 0.46), "point in unlike ways (cosines from 0.00 to 0.46)"),
    ],
)
def test_words_hold_for_every_pair(cosines: tuple[float, ...], words: str) -> None:
    changes = Changes(("a", "b", "c"), (0.1,) * 3, (5.0,) * 3, cosines, (0.5,) * 3, (0.2,) * 3)
    assert words in advice_of(changes, read_rules())[0].sentence


def test_what_lies_outside_the_measured_is_called_a_guess() -> None:
    changes = replace(CASES[0].changes, cosines=tuple(0.99 for _ in CASES[0].changes.cosines), models=tuple("abcde"))
    evidence = [entry.evidence for entry in advice_of(changes, read_rules()) if "scale" in entry.question]
    assert any("a guess" in text for text in evidence)


def test_the_peak_of_a_parabola_is_found_between_the_scales() -> None:
    scales = (0.25, 0.5, 1.0, 2.0)
    scores = tuple(0.8 - (math.log(scale) - math.log(0.6)) ** 2 for scale in scales)
    assert Line(scales, scores).peak == pytest.approx((0.6, 0.8))


def test_a_peak_stays_within_the_line() -> None:
    assert Line((0.5, 1.0, 2.0), (0.1, 0.2, 0.3)).peak == pytest.approx((2.0, 0.3))


def test_a_group_of_a_family_has_the_figures_of_its_members() -> None:
    family = next(iter(read_families().values()))
    group = family.of((family.models[3], family.models[1]))
    assert group.norms == (family.norms[3], family.norms[1])
    assert group.cosines == (family.cosines[5],)
    assert group.losses[2][0] == family.losses[2][3]
