"""Choices read after their prefix as rows of their own, each with a copy of the prefix's keys and values.

A choice of a single token costs nothing more than the prefix.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from cuvee.evaluation.batches import Unit, make_batches
from cuvee.evaluation.forward import Seen
from cuvee.evaluation.question import Question, Tokens, by_question
from cuvee.evaluation.shared import SharedStart


@torch.inference_mode()
def log_likelihoods(questions: Sequence[Question], start: SharedStart, *, logits_at_once: int) -> list[list[float]]:
    """Sum the log-probabilities of the scored tokens of each choice of each question.

    Prefixes are read through `start`. No more than `logits_at_once` logits of choices are computed together.
    """
    longest = max(question.longest for question in questions)
    seen = start.read([question.prefix for question in questions], follow=longest - 1)
    owners: list[int] = []
    rows: list[Tokens] = []
    for place, question in enumerate(questions):
        owners += [place] * len(question.choices)
        rows += question.choices
    totals = np.zeros(len(rows))
    if questions[0].first_scored:
        totals += _first_tokens(seen, owners, rows)
    for group in _groups(rows, seen.logits.shape[-1], logits_at_once):
        own_owners, own_rows = [owners[row] for row in group], [rows[row] for row in group]
        totals[group] += _later_tokens(seen, own_owners, own_rows)
    return by_question(totals.tolist(), questions)


def _first_tokens(seen: Seen, owners: list[int], rows: list[Tokens]) -> np.ndarray:
    likelihoods: torch.Tensor = seen.logits.log_softmax(-1)[owners, [row[0] for row in rows]]
    return likelihoods.double().cpu().numpy()


def _groups(rows: list[Tokens], vocabulary: int, logits_at_once: int) -> Iterator[list[int]]:
    """Group the rows of several tokens by length, so that the logits of a group fit into memory."""
    units = []
    for place, row in enumerate(rows):
        later = len(row) - 1
        if later > 0:
            units.append(Unit((place,), (later,), later * vocabulary))
    yield from make_batches(units, batch_size="auto", budget=logits_at_once)


def _later_tokens(seen: Seen, owners: list[int], rows: list[Tokens]) -> np.ndarray:
    longest = max(map(len, rows))
    device = seen.logits.device
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    logits, _ = seen.select(torch.tensor(owners, device=device)).read_on(ids[:, :-1], lengths - 1)
    logits = logits.float()
    chosen = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)
    scored = torch.arange(1, longest, device=device) < lengths[:, None]
    return chosen.double().where(scored, 0.0).sum(-1).cpu().numpy()
