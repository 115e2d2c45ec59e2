"""Choices read as branches of one row are as likely as choices read as rows of their own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.evaluation import Prompt, Shot, branches, copies
from cuvee.evaluation.budget import LOGITS_AT_ONCE
from cuvee.evaluation.likelihoods import Likelihoods
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.question import Question
from cuvee.evaluation.shared import SharedStart
from cuvee.evaluation.stems import FEWEST, Row, in_rows, row_of
from cuvee.evaluation.tokenise import opening

SOME_TOKENS = st.lists(st.integers(0, 255), min_size=1, max_size=6)
QUESTIONS = st.builds(Question, SOME_TOKENS, st.lists(SOME_TOKENS, min_size=1, max_size=4).map(tuple))


@settings(deadline=None, max_examples=30)
@given(questions=st.lists(QUESTIONS, min_size=1, max_size=5), first_scored=st.booleans())
def test_both_ways_find_the_same(model: LanguageModel, questions: list[Question], first_scored: bool) -> None:
    asked = [Question(question.prefix, question.choices, first_scored) for question in questions]
    together = branches.log_likelihoods(model.abilities.network, list(map(alone, asked)))
    apart = copies.log_likelihoods(asked, SharedStart(model, Prompt()), logits_at_once=LOGITS_AT_ONCE)
    for row, expected in zip(together, apart, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


def alone(question: Question) -> Row:
    return Row((question,))


ENDS = st.lists(st.integers(0, 3), max_size=FEWEST)
ALIKE = st.builds(
    lambda start, end, choices: Question([7] * start + end + [5], choices),
    st.integers(0, 2 * FEWEST),
    ENDS,
    st.lists(SOME_TOKENS, min_size=1, max_size=3).map(tuple),
)


@settings(deadline=None, max_examples=30)
@given(questions=st.lists(ALIKE, min_size=1, max_size=6), start=st.booleans())
def test_questions_that_begin_alike_share_a_row(model: LanguageModel, questions: list[Question], start: bool) -> None:
    asked = [Question([1] * 20 + question.prefix, question.choices) for question in questions] if start else questions
    before = model.abilities.read_padded([[1] * 20]) if start else None
    network = model.abilities.network
    groups = in_rows(asked, most_tokens=200, most=10, start=20 * start)
    assert sorted(place for group in groups for place in group) == list(range(len(asked)))
    together = branches.log_likelihoods(network, [row_of(asked, group) for group in groups], before)
    apart = branches.log_likelihoods(network, list(map(alone, asked)))
    for row, place in zip(together, [place for group in groups for place in group], strict=True):
        assert row == pytest.approx(apart[place], abs=1e-4)


@given(questions=st.lists(ALIKE, max_size=12), tokens=st.integers(0, 120), start=st.sampled_from([0, 3]))
def test_rows_save_tokens_and_are_no_longer_than_asked(questions: list[Question], tokens: int, start: int) -> None:
    rows = [row_of(questions, group) for group in in_rows(questions, tokens, 4, start)]
    for row in rows:
        assert len(row.questions) <= 4
        if len(row.questions) > 1:
            assert row.tokens <= tokens
            assert row.stem - start >= FEWEST
        for question in row.questions:
            assert question.prefix[: row.stem] == row.questions[0].prefix[: row.stem]
            assert row.stem < len(question.prefix)


def test_a_passage_is_shared_before_what_all_passages_begin_with() -> None:
    passages = [[1] * 20 + [passage] * 100 for passage in (2, 3)]
    questions = [Question([*passage, asked], ([4],)) for asked in range(5, 8) for passage in passages]
    assert in_rows(questions, 200, 10) == [[0, 2, 4], [1, 3, 5]]
    assert in_rows(questions, 110, 10) == [[place] for place in (0, 2, 4, 1, 3, 5)]
    assert in_rows(questions, 200, 2) == [[0, 2], [4], [1, 3], [5]]


def test_what_was_read_before_is_seen_by_every_branch(model: LanguageModel) -> None:
    start, rest = [9, 8, 7, 6], [Question([5, 4], ([1, 2, 3], [4])), Question([3], ([1, 1], [2, 5, 2]))]
    whole = [Question(start + question.prefix, question.choices) for question in rest]
    network = model.abilities.network
    rows = list(map(alone, whole))
    found = branches.log_likelihoods(network, rows, model.abilities.read_padded([start]))
    for row, expected in zip(found, branches.log_likelihoods(network, rows), strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


def test_logits_that_would_take_too_much_are_computed_in_parts(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [Question([1, 2], ([3] * size, [4, 5], [3] * size)) for size in (2, 5, 1, 9)]
    whole = Likelihoods(model, Prompt()).of(questions)
    monkeypatch.setattr("cuvee.evaluation.likelihoods.LOGITS_AT_ONCE", 1)
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
