"""Caches and masks of transformers are used in the ways that hold for every kind of layer."""

import pytest
import torch
import transformers

from cuvee.evaluation.caches import growing, select_rows, trim_columns
from cuvee.evaluation.choices import choose
from cuvee.evaluation.tokenise import make_questions

from .families import PLACES, make_network
from .test_abilities import brute_force
from .ways import PLAIN_PROMPT, SAMPLES, language_model

HYBRIDS = ("qwen 3 next", "falcon h1", "jamba", "lfm 2", "olmo hybrid", "granite hybrid")
ROWS = torch.arange(5, 17).reshape(2, 6)
"""Two questions of six tokens."""


@pytest.mark.parametrize("family", HYBRIDS)
@torch.inference_mode()
def test_rows_are_picked_from_the_cache_of_a_hybrid_which_stays_as_it_was(family: str) -> None:
    """The library's own `batch_select_indices` raises here, after it has changed the layers before."""
    network = make_network(family)
    cache = growing(transformers.DynamicCache(config=network.config))
    network(ROWS, past_key_values=cache)
    picks, following = torch.tensor([1, 1, 0]), torch.tensor([[20], [21], [22]])
    for _ in range(2):
        picked = select_rows(cache, picks)
        logits = network(following, past_key_values=picked).logits[:, -1]
        whole = network(torch.cat([ROWS[picks], following], 1), use_cache=False).logits[:, -1]
        assert torch.allclose(logits, whole, atol=1e-5)


@torch.inference_mode()
def test_columns_are_trimmed_from_the_left_of_a_cache_which_stays_as_it_was() -> None:
    network = make_network("llama")
    cache = growing(transformers.DynamicCache(config=network.config))
    network(ROWS, past_key_values=cache)
    trimmed = trim_columns(cache, 2)
    for layer, shorter in zip(cache.layers, trimmed.layers, strict=True):
        assert layer.keys.shape[2] == 6
        assert torch.equal(shorter.keys, layer.keys[:, :, 2:])
        assert torch.equal(shorter.values, layer.values[:, :, 2:])


def test_a_mask_keeps_choices_apart_in_eager_attention_too() -> None:
    """Eager attention adds a mask to the scores, so one of booleans would hide nothing."""
    network = make_network("llama")
    network.set_attn_implementation("eager")
    model = language_model(network)
    assert model.abilities.branches(PLACES)
    answers = dict(pair for batch in choose(model, SAMPLES, PLAIN_PROMPT) for pair in batch)
    for place, question in enumerate(make_questions(model, SAMPLES, PLAIN_PROMPT)):
        expected = [brute_force(model, question.prefix, choice) for choice in question.choices]
        assert answers[place].scores == pytest.approx(expected, abs=1e-4)
