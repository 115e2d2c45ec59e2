"""Few-shot examples are read once for a task, and the scores are as if they were read with every item."""

from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from cuvee.evaluation import Prompt, Sample, Shot
from cuvee.evaluation import shared as room
from cuvee.evaluation.choices import Choice, choose
from cuvee.evaluation.generate import generate
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.tokenise import opening

from .brute_force import choice_scores

PROMPT = Prompt(
    template="Q: {input} A:",
    few_shot=(Shot("What did the dog do?", "bark"), Shot("And the cat?", "meow loudly")),
    max_new_tokens=6,
)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
QUESTIONS = [
    ("Which?", ("A", "B", "C", "D")),
    ("What did the fox do then?", ("run", "run away", "run away fast", "r")),
    ("q", ("yes", "no")),
    ("A longer one\n", ("ü", "x", "a much longer answer than the others")),
]
SAMPLES = [Sample(str(n), text, "multiple_choice", choices) for n, (text, choices) in enumerate(QUESTIONS)]


def answers(model: LanguageModel, batch_size: int = 16) -> list[Choice]:
    by_place = dict(pair for batch in choose(model, SAMPLES, PROMPT, batch_size=batch_size) for pair in batch)
    return [by_place[place] for place in range(len(SAMPLES))]


@pytest.fixture
def read_tokens(model: LanguageModel) -> Iterator[list[list[int]]]:
    """The rows of every forward pass, padding apart."""
    seen: list[list[int]] = []

    def note(network: object, positional: object, given: dict[str, torch.Tensor]) -> None:
        seen.extend(row.tolist() for row in given["input_ids"])

    hook = model.network.register_forward_pre_hook(note, with_kwargs=True)
    yield seen
    hook.remove()


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_scores_equal_brute_force(model: LanguageModel, batch_size: int) -> None:
    for (context, choices), found in zip(QUESTIONS, answers(model, batch_size), strict=True):
        expected = choice_scores(model, PROMPT.render(context), choices)
        assert found.scores == pytest.approx(expected, abs=1e-4)


def test_the_examples_are_read_once(model: LanguageModel, read_tokens: list[list[int]]) -> None:
    answers(model, batch_size=2)
    start = opening(model, PROMPT)
    with_examples = [row for row in read_tokens if starting(row, start)]
    assert with_examples == [start]


def test_rows_that_are_longer_than_a_window_are_read_whole(model: LanguageModel) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        **SIZES, vocab_size=len(model.tokenizer), sliding_window=8, bos_token_id=0, pad_token_id=None
    )
    network = MistralForCausalLM(config).eval()
    windowed = LanguageModel("mistral", "d", network, model.tokenizer, 256)
    assert not windowed.abilities.shares_start(len(opening(windowed, PROMPT)))
    for (context, choices), found in zip(QUESTIONS, answers(windowed, 16), strict=True):
        assert found.scores == pytest.approx(choice_scores(windowed, PROMPT.render(context), choices), abs=1e-4)


def starting(row: list[int], start: list[int]) -> bool:
    """Whether a row begins with these tokens, after what padding there is."""
    return any(row[place : place + len(start)] == start for place in range(len(row) - len(start) + 1))


def test_a_row_that_was_cut_is_read_alone(make_model: Callable[..., LanguageModel]) -> None:
    model = make_model(max_position_embeddings=130)
    samples = [*SAMPLES, Sample("long", "z" * 60, "multiple_choice", ("a", "b"))]
    by_place = dict(pair for batch in choose(model, samples, PROMPT) for pair in batch)
    assert by_place[4].cut > 0
    assert by_place[0].scores == pytest.approx(choice_scores(model, PROMPT.render("Which?"), "ABCD"), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_texts_are_the_same_without_sharing(
    model: LanguageModel, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [Sample(str(n), text, "generation") for n, (text, _) in enumerate(QUESTIONS)]
    shared = [dict(batch) for batch in generate(model, samples, PROMPT, batch_size=batch_size)]
    monkeypatch.setattr(room, "FEWEST", 10**6)
    assert shared == [dict(batch) for batch in generate(model, samples, PROMPT, batch_size=batch_size)]


def test_the_start_is_copied_and_stays_as_it_is(model: LanguageModel) -> None:
    rows = model.encode([PROMPT.render(text) for text, _ in QUESTIONS])
    start = room.SharedStart(model, PROMPT)
    first, again = start.read(rows, follow=0), start.read(rows, follow=0)
    assert torch.equal(first.logits, again.logits)
    assert first.logits == pytest.approx(model.abilities.read(rows).logits, abs=1e-4)
