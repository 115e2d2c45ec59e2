"""Measures one model on passages: how well it reads them, how sure it is, and how it writes on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cuvee.doctor.findings import Signs
from cuvee.evaluate.generate import write
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.prompt import Prompt
from cuvee.evaluate.sampling import Sampler
from cuvee.evaluate.shared import SharedStart

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
    """Show a model the beginnings of passages, one after the other."""
    rows = tuple(row[:MOST_TOKENS] for row in model.encode(list(passages)) if len(row) > 1)
    found = []
    for row in rows:
        logits = model.network(input_ids=torch.tensor([row], device=model.device)).logits[0, :-1]
        found.append(logits.float().log_softmax(-1).cpu())
    return Reading(rows, tuple(found))


def signs_of(model: LanguageModel, reading: Reading, continuations: Sequence[Tokens]) -> Signs:
    """Sum up what a model shows."""
    losses = torch.cat([-table.gather(-1, torch.tensor(row[1:])[:, None])[:, 0] for row, table in _both(reading)])
    entropies = torch.cat([-(table.exp() * table.clamp(min=-1e4)).sum(-1) for table in reading.next_tokens])
    loss, entropy = float(losses.double().mean()), float(entropies.double().mean())
    read = [model.tokenizer.decode(row[1:], clean_up_tokenization_spaces=False) for row in reading.rows]
    bits = float(losses.double().sum()) / math.log(2) / max(1, sum(len(text.encode()) for text in read))
    distinct = {tuple(tokens) for tokens in continuations}
    return Signs(
        tokens=len(losses),
        not_finite=sum(int((~parameter.isfinite()).sum()) for parameter in model.network.parameters()),
        loss=loss if math.isfinite(loss) else None,
        bits_per_byte=bits if math.isfinite(bits) else None,
        guessing=math.log(reading.next_tokens[0].shape[-1]),
        entropy=entropy if math.isfinite(entropy) else None,
        repetition=repetition(continuations),
        distinct=len(distinct) / len(continuations) if continuations else 1.0,
    )


def continuations_of(model: LanguageModel, reading: Reading) -> list[Tokens]:
    """Write on from the first tokens of some passages, the most likely token at every step.

    Nothing is written by a model whose output is not a number.
    """
    if not all(bool(table.isfinite().all()) for table in reading.next_tokens):
        return []
    prompt = Prompt(max_new_tokens=WRITTEN_TOKENS)
    rows = [row[:PROMPT_TOKENS] for row in reading.rows[:MOST_WRITTEN]]
    return write(
        model, rows, prompt, Sampler(prompt, [str(place) for place in range(len(rows))]), SharedStart(model, prompt)
    )


def repetition(texts: Sequence[Tokens]) -> float:
    """Return the share of four-token sequences that were in the same text before."""
    seen = [[tuple(text[i : i + SEQUENCE]) for i in range(len(text) - SEQUENCE + 1)] for text in texts]
    total = sum(map(len, seen))
    return 1 - sum(len(set(each)) for each in seen) / total if total else 0.0


def divergence(model: Reading, parent: Reading) -> tuple[float, float] | None:
    """Return the mean divergence of a model's next tokens from a parent's, and how often their first ones agree.

    None where the two do not have the same tokens.
    """
    if model.rows != parent.rows or model.next_tokens[0].shape[-1] != parent.next_tokens[0].shape[-1]:
        return None
    pairs = list(zip(model.next_tokens, parent.next_tokens, strict=True))
    apart = torch.cat([(own.exp() * (own - other).clamp(-1e4, 1e4)).sum(-1) for own, other in pairs])
    agree = torch.cat([own.argmax(-1) == other.argmax(-1) for own, other in pairs])
    mean = float(apart.double().mean())
    return (max(0.0, mean), float(agree.double().mean())) if math.isfinite(mean) else None


def _both(reading: Reading) -> list[tuple[Tokens, torch.Tensor]]:
    return list(zip(reading.rows, reading.next_tokens, strict=True))
