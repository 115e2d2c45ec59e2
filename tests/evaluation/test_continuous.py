"""Rows that enter a batch which others have left are written as if they stood alone, or do not enter."""

import copy
from typing import Any

import pytest
import torch
import transformers

from cuvee.evaluation import Sample, forward
from cuvee.evaluation.caches import SLACK, GrowingLayer, join_rows
from cuvee.evaluation.continuous import write
from cuvee.evaluation.generate import generate
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.sampling import Sampler
from cuvee.evaluation.shared import SharedStart

from .families import make_network
from .ways import SHARED_PROMPT, language_model

LENGTHS = [1, 1, 1, 24, 1, 1, 1, 1]


@pytest.fixture
def model() -> LanguageModel:
    return language_model(make_network("llama"))


class Counted(Sampler):
    """Ends each row after its own number of tokens, so that the test knows which rows leave."""

    def __init__(self, prompt: Prompt, lengths: list[int], end: int) -> None:
        super().__init__(prompt, [str(place) for place in range(len(lengths))])
        self._lengths, self._end = lengths, end

    def pick(self, logits: torch.Tensor, rows: Any, positions: Any) -> torch.Tensor:
        ended = [self._lengths[row] == position for row, position in zip(rows, positions, strict=True)]
        return super().pick(logits, rows, positions).masked_fill(torch.tensor(ended), self._end)


def written(model: LanguageModel, lines: int, *, longer: int = 0) -> list[list[int]]:
    """Write after rows of three tokens, or each `longer` than the one before by so many."""
    prompt = Prompt(max_new_tokens=30)
    rows = [[5] * longer * place + [5, 6, 7 + place] for place in range(len(LENGTHS))]
    sampler = Counted(prompt, LENGTHS, model.end_tokens[0])
    return write(model, rows, prompt, sampler, SharedStart(model, prompt), lines=lines)


def test_rows_enter_where_others_have_left(model: LanguageModel) -> None:
    model.abilities.joins(40)
    before = model.abilities.meter.reading
    assert list(map(len, written(model, 2))) == LENGTHS
    read = 3 * len(LENGTHS) + sum(LENGTHS)
    assert model.abilities.meter.reading.since(before).shown <= read + 4  # beside a few lines whose row had just ended


def test_a_network_that_rows_cannot_enter_writes_one_batch_after_the_other(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = written(model, 2)
    model = language_model(model.network)

    def mixed_up(one: Any, other: Any, columns: int) -> Any:
        joined = join_rows(one, other, columns)
        joined.reorder_cache(torch.arange(joined.layers[0].keys.shape[0]).flip(0))
        return joined

    monkeypatch.setattr(forward, "join_rows", mixed_up)
    assert not model.abilities.joins(40)
    assert model.abilities.way(40).name == "padded"
    assert written(model, 2) == expected


def test_rows_of_a_cache_that_nobody_here_knows_do_not_enter(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = written(model, 3, longer=2)
    model = language_model(model.network)
    monkeypatch.setattr("cuvee.evaluation.caches.KNOWN", {"DynamicSlidingWindowLayer"})
    assert not model.abilities.joins(60)
    assert model.abilities.way(60).name == "padded"
    assert written(model, 3, longer=2) == expected


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_start_that_all_rows_share_is_read_once_and_rows_enter_behind_it(
    model: LanguageModel, batch_size: int
) -> None:
    samples = [Sample(str(place), "why " * place, "generation") for place in range(6)]
    prompt = Prompt(template=SHARED_PROMPT.template, few_shot=SHARED_PROMPT.few_shot, max_new_tokens=5)
    alone = [dict(generate_one(model, sample, prompt)) for sample in samples]
    found = dict(pair for batch in generate(model, samples, prompt, batch_size=batch_size) for pair in batch)
    assert [found[place].text for place in range(6)] == [each[0].text for each in alone]


def generate_one(model: LanguageModel, sample: Sample, prompt: Prompt) -> Any:
    return (pair for batch in generate(model, [sample], prompt) for pair in batch)


def test_layers_that_grow_hold_what_layers_of_transformers_hold() -> None:
    torch.manual_seed(0)
    growing, plain = GrowingLayer(), transformers.cache_utils.DynamicLayer()
    for columns in (3, 1, SLACK, 1, SLACK + 5, 1):
        states = torch.randn(2, 3, columns, 4), torch.randn(2, 3, columns, 4)
        for own, other in zip(growing.update(*states), plain.update(*states), strict=True):
            assert torch.equal(own, other)


def test_rows_that_were_picked_grow_apart() -> None:
    states = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 2, 1)
    layer = GrowingLayer()
    layer.update(*states)
    layer.update(*states)
    picked = copy.copy(layer)
    picked.reorder_cache(torch.tensor([0]))
    picked.update(states[0] + 1, states[1] + 1)
    layer.update(states[0] + 2, states[1] + 2)
    assert picked.keys[0, 0, -1, 0] == 1
    assert layer.keys[0, 0, -1, 0] == 2
