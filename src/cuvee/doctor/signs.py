"""Measures a model on passages: how well it reads them, how sure it is, and how it writes on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cuvee.doctor.findings import Signs
from cuvee.evaluation.continuous import write
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.sampling import Sampler
from cuvee.evaluation.shared import SharedStart

Tokens = list[int]

MOST_TOKENS = 64
"""Of each passage."""

MOST_WRITTEN = 6
"""Passages that are written on."""

PROMPT_TOKENS = 12
WRITTEN_TOKENS = 32
SEQUENCE = 4


@dataclass(frozen=True)
class Reading:
    """A model's log-probabilities of the next token at every place of a passage: [places, tokens of the vocabulary]."""

    rows: tuple[Tokens, ...]
    next_tokens: tuple[torch.Tensor, ...]


@torch.inference_mode()
def read_passages(model: LanguageModel, passages: Sequence[str]) -> Reading:
    """Show a model the beginnings of passages, in turn."""
    rows, tables = [], []
    for tokens in model.encode(list(passages)):
        if len(tokens) < 2:
            continue
        row = tokens[:MOST_TOKENS]
        logits = model.network(input_ids=torch.tensor([row], device=model.device)).logits[0, :-1]
        rows.append(row)
        tables.append(logits.float().log_softmax(-1).cpu())
    return Reading(tuple(rows), tuple(tables))


def signs_of(model: LanguageModel, reading: Reading, continuations: Sequence[Tokens]) -> Signs:
    """Sum up the signs of a model from its reading and its continuations."""
    pairs = zip(reading.rows, reading.next_tokens, strict=True)
    losses = torch.cat([-table.gather(-1, torch.tensor(row[1:])[:, None])[:, 0] for row, table in pairs])
    # -Σ p log p, in which 0 · -inf counts as 0
    entropies = torch.cat([-(table.exp() * table.clamp(min=-1e4)).sum(-1) for table in reading.next_tokens])
    bits = float(losses.double().sum()) / math.log(2)
    not_finite = sum(int((~parameter.isfinite()).sum()) for parameter in model.network.parameters())
    distinct = 1.0
    if continuations:
        distinct = len(set(map(tuple, continuations))) / len(continuations)
    return Signs(
        tokens=len(losses),
        not_finite=not_finite,
        loss=_if_finite(float(losses.double().mean())),
        bits_per_byte=_if_finite(bits / max(1, _bytes_read(model, reading))),
        guessing=math.log(reading.next_tokens[0].shape[-1]),
        entropy=_if_finite(float(entropies.double().mean())),
        repetition=repetition(continuations),
        distinct=distinct,
    )


def _bytes_read(model: LanguageModel, reading: Reading) -> int:
    texts = [model.tokenizer.decode(row[1:], clean_up_tokenization_spaces=False) for row in reading.rows]
    return sum(len(text.encode()) for text in texts)


def _if_finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def continuations_of(model: LanguageModel, reading: Reading) -> list[Tokens]:
    """Write on from the first tokens of some passages, the most likely token at every step.

    Nothing is written by a model whose output is not a number.
    """
    if not all(bool(table.isfinite().all()) for table in reading.next_tokens):
        return []
    prompt = Prompt(max_new_tokens=WRITTEN_TOKENS)
    rows = [row[:PROMPT_TOKENS] for row in reading.rows[:MOST_WRITTEN]]
    sampler = Sampler(prompt, [str(which) for which in range(len(rows))])
    return write(model, rows, prompt, sampler, SharedStart(model, prompt))


def repetition(texts: Sequence[Tokens]) -> float:
    """Return the share of four-token sequences that were in the same text before."""
    total, distinct = 0, 0
    for text in texts:
        sequences = [tuple(text[i : i + SEQUENCE]) for i in range(len(text) - SEQUENCE + 1)]
        total += len(sequences)
        distinct += len(set(sequences))
    return 1 - distinct / total if total else 0.0


def divergence(model: Reading, parent: Reading) -> tuple[float, float] | None:
    """Return the mean divergence of a model's next tokens from a parent's, and how often the likeliest agree.

    None where the two do not have the same tokens.
    """
    if model.rows != parent.rows or model.next_tokens[0].shape[-1] != parent.next_tokens[0].shape[-1]:
        return None
    pairs = list(zip(model.next_tokens, parent.next_tokens, strict=True))
    # Kullback-Leibler: Σ p (log p - log q), a likelihood of 0 clamped so that the sum is a number
    distances = torch.cat([(own.exp() * (own - other).clamp(-1e4, 1e4)).sum(-1) for own, other in pairs])
    agreements = torch.cat([own.argmax(-1) == other.argmax(-1) for own, other in pairs])
    mean = float(distances.double().mean())
    if not math.isfinite(mean):
        return None
    return max(0.0, mean), float(agreements.double().mean())
