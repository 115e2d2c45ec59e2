"""All choices of a question read in one forward pass with its prefix: a row that branches.

The choices stand behind the prefix, one after the other. A mask lets each see the prefix and itself, and each begins at
the position after the prefix: tree attention, as in Medusa (Cai et al. 2024, arXiv 2401.10774, section 2.3). Nothing is
copied, and there is little to pad.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from cuvee.evaluate.forward import Seen, can_share, read_branches
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.question import Question, Tokens, by_question

MASKABLE = ("eager", "sdpa")
PADDING, PREFIX = -1, 0
PROBE = Question([0, 1], ([2, 3, 4], [5, 6, 7]))


def can_branch(model: LanguageModel) -> bool:
    """Whether the model's attention heeds such a mask, found by trying: the choices must not see each other."""
    if not can_share(model) or getattr(model.network.config, "_attn_implementation", None) not in MASKABLE:
        return False
    apart = [log_likelihoods(model, [Question(PROBE.prefix, (choice,))])[0][0] for choice in PROBE.choices]
    together = [log_likelihoods(model, [PROBE], masked=masked)[0] for masked in (True, False)]
    error, unmasked = np.abs(np.array(together) - apart).max(axis=1)
    return bool(error <= 0.1 * unmasked)


@torch.inference_mode()
def log_likelihoods(
    model: LanguageModel, questions: Sequence[Question], before: Seen | None = None, *, masked: bool = True
) -> list[list[float]]:
    """Sum the log-probabilities of the scored tokens of each choice of each question.

    With `before`, the one row with which all prefixes begin, the rest of them is read.
    """
    start = 0 if before is None else before.width
    width = max(question.tokens for question in questions) - start
    kept = 1 + max(question.tokens - len(question.prefix) for question in questions)
    rows = [_laid_out(question, start, width) for question in questions]
    ids, positions, branches = torch.tensor(rows, device=model.device).unbind(1)
    mask = _mask(branches, start, model.network.dtype) if masked else None
    logits = read_branches(model, ids, positions, mask, before, keep=kept).float()
    row, column, token, choice = np.array(list(_scored(questions)), np.int64).reshape(-1, 4).T
    places = torch.from_numpy(row).to(model.device), torch.from_numpy(column + kept).to(model.device)
    found = logits[(*places, torch.from_numpy(token).to(model.device))] - logits.logsumexp(-1)[places]
    totals = np.bincount(choice, found.double().cpu().numpy(), sum(len(question.choices) for question in questions))
    return by_question(totals.tolist(), questions)


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


def _scored(questions: Sequence[Question]) -> Iterator[tuple[int, int, int, int]]:
    """Give the row, the column from the end at which a token is foretold, the token, and the choice that it is of."""
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
