"""The original kit's scores: what it left out and what it added, in numbers."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cuvee.evaluation.choices import choose
from cuvee.evaluation.kit import kit_style
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.task import Sample

from .brute_force import token_log_probabilities

CONTEXT = "Which of these is it?"
LETTERS = ("A", "B", "C", "D")
SENTENCES = ("He ran.", "He did not.", "None of the above choices .")


def kit_scores(model: LanguageModel, choices: tuple[str, ...]) -> tuple[float, ...]:
    sample = Sample("0", CONTEXT, "multiple_choice", choices)
    return next(choose(model, [sample], Prompt(), scoring="kit"))[0][1].scores


def after_context(model: LanguageModel, ids: list[int]) -> list[float]:
    """Return the log-probability of each of these tokens, after the context."""
    context = model.tokenizer(CONTEXT)["input_ids"]
    return token_log_probabilities(model, [*context, *ids])[len(context) - 1 :]


@pytest.fixture(params=["LlamaTokenizer", "LlamaTokenizerFast"])
def llama2(request: pytest.FixtureRequest, model: LanguageModel) -> LanguageModel:
    return replace(model, tokenizer_class=request.param)


@pytest.fixture
def llama3(model: LanguageModel) -> LanguageModel:
    return replace(model, tokenizer_class="PreTrainedTokenizerFast")


def test_the_tokenizer_class_in_the_folder_decides(llama2: LanguageModel, llama3: LanguageModel) -> None:
    assert (kit_style(llama2), kit_style(llama3)) == ("llama2", "llama3")


@pytest.mark.parametrize("choices", [LETTERS, SENTENCES])
def test_llama2_all_tokens_and_the_end_minus_the_first_token(llama2: LanguageModel, choices: tuple[str, ...]) -> None:
    end = llama2.tokenizer.eos_token_id
    each = [after_context(llama2, [*llama2.tokenizer(c, add_special_tokens=False)["input_ids"], end]) for c in choices]
    assert kit_scores(llama2, choices) == pytest.approx([sum(row) - row[0] for row in each], abs=1e-4)


def test_llama2_letters_are_scored_by_the_end_token_alone(llama2: LanguageModel) -> None:
    end = llama2.tokenizer.eos_token_id
    ids = [llama2.tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in LETTERS]
    assert [len(row) for row in ids] == [1, 1, 1, 1]
    ends = [after_context(llama2, [*row, end])[-1] for row in ids]
    assert kit_scores(llama2, LETTERS) == pytest.approx(ends, abs=1e-4)


@pytest.mark.parametrize("choices", [LETTERS, SENTENCES])
def test_llama3_all_tokens_after_a_second_start_token(llama3: LanguageModel, choices: tuple[str, ...]) -> None:
    ids = [llama3.tokenizer(choice)["input_ids"] for choice in choices]
    assert all(row[0] == llama3.tokenizer.bos_token_id for row in ids)
    expected = [sum(after_context(llama3, row)[1:]) for row in ids]
    assert kit_scores(llama3, choices) == pytest.approx(expected, abs=1e-4)


def test_without_special_tokens_a_letter_scores_nothing(make_model: Callable[..., LanguageModel]) -> None:
    assert kit_scores(make_model(start=False), LETTERS) == (0.0, 0.0, 0.0, 0.0)
