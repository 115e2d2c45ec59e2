"""Multiple choice equals brute force, whatever the batch, the padding and the tokens at the border."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation.choices import Choice, Scoring, check_scoring, choose
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.task import Sample
from cuvee.evaluation.tokenise import cut_to_fit, split

from .brute_force import choice_scores, log_likelihood

QUESTIONS = [
    ("Which?", ("A", "B", "C", "D")),
    ("What did the fox do then?", ("run", "run away", "run away fast", "r")),
    ("q", ("yes", "no")),
    ("A longer context with\nseveral lines, and é, ü, 漢字.", ("ü", "x", "a much longer answer than the others")),
    ("What did the fox do now?", ("sleep", "sleep", "eat")),
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8}
OTHER_MODELS = {
    "mistral": {**GROUPED, "sliding_window": 8},
    "gemma2": {**GROUPED, "sliding_window": 8},
    "mixtral": {**GROUPED, "num_local_experts": 4},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 110},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}


def ask(questions: Sequence[tuple[str, tuple[str, ...]]]) -> list[Sample]:
    return [Sample(str(n), text, "multiple_choice", choices) for n, (text, choices) in enumerate(questions)]


def answers(
    model: LanguageModel,
    samples: Sequence[Sample],
    prompt: Prompt | None = None,
    *,
    scoring: Scoring = "sum",
    batch_size: int = 16,
) -> list[Choice]:
    found = choose(model, samples, prompt or Prompt(), scoring=scoring, batch_size=batch_size)
    by_place = dict(pair for batch in found for pair in batch)
    return [by_place[place] for place in range(len(samples))]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("start", [True, False])
def test_sums_equal_brute_force(make_model: Callable[..., LanguageModel], batch_size: int, start: bool) -> None:
    model = make_model("r u", "ru n", "Ġ run", start=start)
    for (context, choices), found in zip(QUESTIONS, answers(model, ask(QUESTIONS), batch_size=batch_size), strict=True):
        expected = choice_scores(model, context, choices)
        assert found.scores == pytest.approx(expected, abs=1e-4)
        assert found.index == expected.index(max(expected))


@settings(deadline=None, max_examples=30)
@given(
    questions=st.lists(
        st.tuples(
            st.text("ab \n", min_size=1, max_size=30),
            st.lists(st.text("ab .", min_size=1, max_size=8), min_size=2, max_size=4).map(tuple),
        ),
        min_size=1,
        max_size=6,
    ),
    batch_size=st.integers(1, 6),
)
def test_any_batch_equals_brute_force(
    model: LanguageModel, questions: list[tuple[str, tuple[str, ...]]], batch_size: int
) -> None:
    found = answers(model, ask(questions), batch_size=batch_size)
    for (context, choices), answer in zip(questions, found, strict=True):
        assert answer.scores == pytest.approx(choice_scores(model, context, choices), abs=1e-4)


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_other_architectures_equal_brute_force(kind: str, model: LanguageModel) -> None:
    """Attention over a window, learned positions, positions from the mask, softly capped logits, experts."""
    torch.manual_seed(0)
    options = {**OTHER_MODELS[kind], "vocab_size": len(model.tokenizer), "bos_token_id": 0, "eos_token_id": 1}
    config = AutoConfig.for_model(kind, **options, pad_token_id=None)
    other = LanguageModel(kind, "d", AutoModelForCausalLM.from_config(config).eval(), model.tokenizer, 110)
    for (context, choices), found in zip(QUESTIONS, answers(other, ask(QUESTIONS)), strict=True):
        assert found.cut == 0
        assert found.scores == pytest.approx(choice_scores(other, context, choices), abs=1e-4)


def test_a_token_across_the_border_moves_the_split_for_all_choices(make_model: Callable[..., LanguageModel]) -> None:
    """The context ends in a space; `Ġy` merges it with `yes`, and `no` must be scored from the same place."""
    model = make_model("Ġ y")
    ids = {text: model.tokenizer(text)["input_ids"] for text in ("is it", "is it ", "is it yes", "is it no")}
    assert ids["is it yes"][: len(ids["is it "])] != ids["is it "]
    prefix = ids["is it"]
    expected = [log_likelihood(model, prefix, ids[text][len(prefix) :]) for text in ("is it yes", "is it no")]
    for batch_size in (1, 3):
        found = answers(
            model, ask([("is it ", ("yes", "no")), *QUESTIONS]), Prompt(choice_separator=""), batch_size=batch_size
        )
        assert found[0].scores == pytest.approx(expected, abs=1e-4)


def test_without_a_shared_token_the_start_token_stands_before_the_choices(
    make_model: Callable[..., LanguageModel],
) -> None:
    model = make_model("a b", start=False)
    question = split([10], [[11, 12], [10, 12]], model)
    assert (question.prefix, question.choices) == ([0], ([11, 12], [10, 12]))


def test_something_is_left_to_score_when_a_choice_adds_no_token(model: LanguageModel) -> None:
    question = split([5, 6, 7], [[5, 6, 7], [5, 6, 7, 8]], model)
    assert (question.prefix, question.choices) == ([5, 6], ([7], [7, 8]))


def test_long_contexts_are_cut_on_the_left_and_counted(make_model: Callable[..., LanguageModel]) -> None:
    model = make_model(max_position_embeddings=24)
    context = "x" * 40 + "0123456789abcdefgh"
    short, long = answers(model, ask([("short", ("a", "b")), (context, ("yes", "n"))]))
    kept = model.tokenizer(context)["input_ids"][:1] + model.tokenizer(context)["input_ids"][-20:]
    rest = {choice: model.tokenizer(" " + choice)["input_ids"][1:] for choice in ("yes", "n")}
    assert (short.cut, long.cut) == (0, 1 + 58 - 21)
    assert long.scores == pytest.approx([log_likelihood(model, kept, rest[c]) for c in ("yes", "n")], abs=1e-4)


def test_choices_that_leave_no_room_are_refused(make_model: Callable[..., LanguageModel]) -> None:
    model = make_model(max_position_embeddings=24)
    with pytest.raises(EvaluationError, match="item '0' take 31 tokens"):
        answers(model, ask([("q", ("a" * 30, "b"))]))
    fits = cut_to_fit(model, split([0, 5], [[0, 5, *[6] * 24], [0, 5, 7]], model), "0")
    assert (fits.prefix, fits.cut) == ([5], 1)


def test_lengths_divide_the_sums(make_model: Callable[..., LanguageModel]) -> None:
    model = make_model("Ġ n")
    samples = ask([("q", ("né", "n"))])
    sums = answers(model, samples)[0].scores
    scores = {name: answers(model, samples, scoring=name)[0].scores for name in ("per_byte", "per_character")}
    assert scores["per_byte"] == pytest.approx((sums[0] / 3, sums[1]))
    assert scores["per_character"] == pytest.approx((sums[0] / 2, sums[1]))
    assert answers(model, samples, scoring="per_token")[0].scores == pytest.approx((sums[0] / 3, sums[1]))


def test_letters_share_their_probability(model: LanguageModel) -> None:
    found = answers(model, ask(QUESTIONS[:1]), scoring="letter")[0].scores
    sums = answers(model, ask(QUESTIONS[:1]))[0].scores
    assert sum(map(math.exp, found)) == pytest.approx(1.0)
    assert np.diff(found) == pytest.approx(np.diff(sums))


def test_letter_scoring_of_words_is_refused(model: LanguageModel) -> None:
    with pytest.raises(EvaluationError, match="id 1, 2"):
        answers(model, ask(QUESTIONS[:3]), scoring="letter")


def test_the_first_of_equal_choices_wins(model: LanguageModel) -> None:
    found = answers(model, ask([("q", ("same", "same", "same"))]))[0]
    assert (found.index, len(set(found.scores))) == (0, 1)


def test_a_model_that_gives_nan_is_refused(make_model: Callable[..., LanguageModel]) -> None:
    model = make_model()
    model.network.model.norm.weight.data[0] = float("nan")
    with pytest.raises(EvaluationError, match="not a number"):
        answers(model, ask(QUESTIONS[:1]))


def test_a_misspelt_scoring_is_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'per_byte'"):
        check_scoring("per_bite")
