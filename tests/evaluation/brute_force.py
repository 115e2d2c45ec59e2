"""Log-likelihoods the slow way: one sequence at a time, no cache, no padding."""

from collections.abc import Sequence

import torch

from cuvee.evaluation.model import LanguageModel


def token_log_probabilities(model: LanguageModel, ids: Sequence[int]) -> list[float]:
    """Return the log-probability of each token but the first, given those before it."""
    with torch.inference_mode():
        logits = model.network(torch.tensor([list(ids)]), use_cache=False).logits[0]
    found = logits[:-1].log_softmax(-1)[range(len(ids) - 1), list(ids[1:])]
    return [float(value) for value in found]


def log_likelihood(model: LanguageModel, prefix: Sequence[int], rest: Sequence[int]) -> float:
    """Return the log-probability of `rest` after `prefix`."""
    return sum(token_log_probabilities(model, [*prefix, *rest])[len(prefix) - 1 :])


def choice_scores(model: LanguageModel, context: str, choices: Sequence[str], separator: str = " ") -> list[float]:
    """Score each choice after a context whose tokens no choice merges with."""
    ids = model.tokenizer(context)["input_ids"]
    whole = [model.tokenizer(context + separator + choice)["input_ids"] for choice in choices]
    assert all(row[: len(ids)] == ids for row in whole)
    return [log_likelihood(model, ids, row[len(ids) :]) for row in whole]
