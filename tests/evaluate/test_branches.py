"""Choices read as branches of one row are as likely as choices read as rows of their own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.evaluate import Prompt, Shot, branches, copies
from cuvee.evaluate.budget import LOGITS_AT_ONCE
from cuvee.evaluate.likelihoods import Likelihoods
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.question import Question
from cuvee.evaluate.shared import SharedStart
from cuvee.evaluate.tokenise import opening

SOME_TOKENS = st.lists(st.integers(0, 255), min_size=1, max_size=6)
QUESTIONS = st.builds(Question, SOME_TOKENS, st.lists(SOME_TOKENS, min_size=1, max_size=4).map(tuple))


@settings(deadline=None, max_examples=30)
@given(questions=st.lists(QUESTIONS, min_size=1, max_size=5), first_scored=st.booleans())
def test_both_ways_find_the_same(model: LanguageModel, questions: list[Question], first_scored: bool) -> None:
    asked = [Question(question.prefix, question.choices, first_scored) for question in questions]
    together = branches.log_likelihoods(model.abilities.network, asked)
    apart = copies.log_likelihoods(asked, SharedStart(model, Prompt()), logits_at_once=LOGITS_AT_ONCE)
    for row, expected in zip(together, apart, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


def test_what_was_read_before_is_seen_by_every_branch(model: LanguageModel) -> None:
    start, rest = [9, 8, 7, 6], [Question([5, 4], ([1, 2, 3], [4])), Question([3], ([1, 1], [2, 5, 2]))]
    whole = [Question(start + question.prefix, question.choices) for question in rest]
    network = model.abilities.network
    found = branches.log_likelihoods(network, whole, model.abilities.read_padded([start]))
    for row, expected in zip(found, branches.log_likelihoods(network, whole), strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


def test_logits_that_would_take_too_much_are_computed_in_parts(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [Question([1, 2], ([3] * size, [4, 5], [3] * size)) for size in (2, 5, 1, 9)]
    whole = Likelihoods(model, Prompt()).of(questions)
    monkeypatch.setattr("cuvee.evaluate.likelihoods.LOGITS_AT_ONCE", 1)
    for row, expected in zip(Likelihoods(model, Prompt()).of(questions), whole, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
        assert row[0] == row[2]


def test_examples_are_shared_by_branches(model: LanguageModel) -> None:
    prompt = Prompt(template="Q: {input} A:", few_shot=(Shot("What did the dog do?", "bark"),))
    start = opening(model, prompt)
    questions = [Question([*start, 5, 6], ([1, 2, 3], [4, 4])), Question([*start, 7], ([2, 2], [1]))]
    shared, plain = Likelihoods(model, prompt).of(questions), Likelihoods(model, Prompt()).of(questions)
    for row, expected in zip(shared, plain, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
