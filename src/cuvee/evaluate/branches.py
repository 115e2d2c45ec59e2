"""All choices of a question read in one forward pass with its prefix: a row that branches.

The choices stand behind the prefix, one after the other. A mask lets each see the prefix and itself, and each begins at
the position after the prefix: tree attention, as in Medusa (Cai et al. 2024, arXiv 2401.10774, section 2.3). Nothing is
copied, and there is little to pad.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from cuvee.evaluate.forward import Padded, begun
from cuvee.evaluate.library import Network
from cuvee.evaluate.question import Question, Tokens, by_question

PADDING, PREFIX = -1, 0


@torch.inference_mode()
def log_likelihoods(network: Network, questions: Sequence[Question], before: Padded | None = None) -> list[list[float]]:
    """Sum the log-probabilities of the scored tokens of each choice of each question.

    With `before`, the one row with which all prefixes begin, the rest of them is read.
    """
    logits = branched_logits(network, questions, before).float()
    row, column, token, choice = np.array(list(scored_places(questions)), np.int64).reshape(-1, 4).T
    places = torch.from_numpy(row).to(logits.device), torch.from_numpy(column + logits.shape[1]).to(logits.device)
    found = logits[(*places, torch.from_numpy(token).to(logits.device))] - logits.logsumexp(-1)[places]
    totals = np.bincount(choice, found.double().cpu().numpy(), sum(len(question.choices) for question in questions))
    return by_question(totals.tolist(), questions)


@torch.inference_mode()
def branched_logits(network: Network, questions: Sequence[Question], before: Padded | None = None) -> torch.Tensor:
    """Show each question in one row, and return the logits of its last places, [questions, places, vocabulary].

    The places are those of the last token of the longest prefix and of all behind it.
    """
    start = 0 if before is None else before.width
    width = max(question.tokens for question in questions) - start
    kept = 1 + max(question.tokens - len(question.prefix) for question in questions)
    rows = [_laid_out(question, start, width) for question in questions]
    ids, positions, branches = torch.tensor(rows, device=network.device).unbind(1)
    mask = _mask(branches, start, network.module.dtype)
    cache = None if before is None else begun(network, len(rows), before)
    return network.logits(ids, cache=cache, mask=mask, positions=positions, last=kept)[:, -kept:]


def _laid_out(question: Question, start: int, width: int) -> list[Tokens]:
    """Return the tokens of a row, padded on the left, their positions, and the branch that each is of."""
    read = [question.prefix[start:], *(choice[:-1] for choice in question.choices)]
    begins = [start, *[len(question.prefix)] * len(question.choices)]
    ids = list(chain.from_iterable(read))
    positions = [begin + place for begin, tokens in zip(begins, read, strict=True) for place in range(len(tokens))]
    branches = [branch for branch, tokens in enumerate(read) for _ in tokens]
    short = width - len(ids)
    return [[0] * short + ids, [0] * short + positions, [PADDING] * short + branches]


def _mask(branches: torch.Tensor, start: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to the attention, [rows, 1, width, start + width]: 0 where a token may look."""
    width = branches.shape[1]
    own = (branches[:, None, :] == branches[:, :, None]) | (branches[:, None, :] == PREFIX)
    seen = torch.nn.functional.pad(own.tril(), (start, 0), value=1)
    nothing = torch.zeros(len(branches), 1, width, start + width, dtype=dtype, device=branches.device)
    return nothing.masked_fill(~seen[:, None], torch.finfo(dtype).min)


def scored_places(questions: Sequence[Question]) -> Iterator[tuple[int, int, int, int]]:
    """Give the row, the column from the end at which a token is foretold, the token, and the choice that it is of.

    Choices are numbered through all questions.
    """
    count = 0
    for row, question in enumerate(questions):
        end = len(question.prefix) - question.tokens - 1
        begin = end + 1
        for choice in question.choices:
            columns = [end, *range(begin, begin + len(choice) - 1)]
            first = 0 if question.first_scored else 1
            for column, token in list(zip(columns, choice, strict=True))[first:]:
                yield row, column, token, count
            begin += len(choice) - 1
            count += 1
