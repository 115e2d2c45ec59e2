"""All choices of a question, and questions that begin alike, read in one forward pass: a row that branches.

The shared beginning of a row's questions stands first, then the rest of each, then the choices in turn. A mask lets
each token see the tokens that it follows, and each has the position that it would have alone: tree attention, as in
Medusa (Cai et al. 2024, arXiv 2401.10774, section 2.3). Nothing is copied, and there is little to pad.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from cuvee.evaluation.forward import Padded
from cuvee.evaluation.library import Network
from cuvee.evaluation.question import by_question
from cuvee.evaluation.stems import Row

PADDING, STEM = -1, 0


@torch.inference_mode()
def log_likelihoods(network: Network, rows: Sequence[Row], before: Padded | None = None) -> list[list[float]]:
    """Sum the log-probabilities of the scored tokens of each choice of each question, row by row.

    With `before`, the row with which all prefixes begin, the rest of them is read.
    """
    logits = branched_logits(network, rows, before).float()
    place, column, token, choice = np.array(list(scored_places(rows)), np.int64).reshape(-1, 4).T
    places = torch.from_numpy(place).to(logits.device), torch.from_numpy(column + logits.shape[1]).to(logits.device)
    likelihoods = logits[(*places, torch.from_numpy(token).to(logits.device))] - logits.logsumexp(-1)[places]
    questions = [question for row in rows for question in row.questions]
    count = sum(len(question.choices) for question in questions)
    totals = np.bincount(choice, likelihoods.double().cpu().numpy(), count)
    return by_question(totals.tolist(), questions)


@torch.inference_mode()
def branched_logits(network: Network, rows: Sequence[Row], before: Padded | None = None) -> torch.Tensor:
    """Show rows of questions, and return the logits of their last places, [rows, places, vocabulary].

    The places are those of the last token of each prefix and of all choices.
    """
    start = 0 if before is None else before.width
    width = max(row.tokens for row in rows) - start
    laid_out = [_laid_out(row, start, width) for row in rows]
    ids, positions, branches, parents = torch.tensor(laid_out, device=network.device).unbind(1)
    mask = _mask(branches, parents, start, network.module.dtype)
    cache = None if before is None else before.repeated(len(rows)).cache
    last = max(row.foretelling for row in rows)
    return network.logits(ids, cache=cache, mask=mask, positions=positions, last=last)[:, -last:]


def _laid_out(row: Row, start: int, width: int) -> list[list[int]]:
    """Return the tokens of a row, padded on the left, their positions, and the branches that they are of and follow.

    The last token of a prefix stands beside its choices, so that all logits that are asked for stand together.
    """
    tokens: list[tuple[int, int, int, int]] = []

    def add(part: Sequence[int], position: int, branch: int, parent: int) -> None:
        tokens.extend((token, position + place, branch, parent) for place, token in enumerate(part))

    add(row.questions[0].prefix[start : row.stem], start, STEM, STEM)
    after_stem = max(start, row.stem)
    for branch, question in enumerate(row.questions, start=1):
        add(question.prefix[after_stem:-1], after_stem, branch, STEM)
    count = len(row.questions)
    for branch, question in enumerate(row.questions, start=1):
        length = len(question.prefix)
        add(question.prefix[-1:], length - 1, branch, STEM)
        for choice in question.choices:
            count += 1
            add(choice[:-1], length, count, branch)
    padding = [(0, 0, PADDING, PADDING)] * (width - len(tokens))
    return [list(column) for column in zip(*padding, *tokens, strict=True)]


def _mask(branches: torch.Tensor, parents: torch.Tensor, start: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the addend of the attention, [rows, 1, width, start + width]: 0 where a token may look."""
    width = branches.shape[1]
    followed = branches[:, None, :]
    followed_by = (followed == branches[:, :, None]) | (followed == parents[:, :, None]) | (followed == STEM)
    seen = torch.nn.functional.pad(followed_by.tril(), (start, 0), value=1)
    nothing = torch.zeros(len(branches), 1, width, start + width, dtype=dtype, device=branches.device)
    return nothing.masked_fill(~seen[:, None], torch.finfo(dtype).min)


def scored_places(rows: Sequence[Row]) -> Iterator[tuple[int, int, int, int]]:
    """Give the row, the column from the end at which a token is foretold, the token, and the choice that it is of.

    Choices are numbered through all questions.
    """
    count = 0
    for place, row in enumerate(rows):
        begin = -row.foretelling
        for question in row.questions:
            end = begin
            begin += 1
            for choice in question.choices:
                columns = [end, *range(begin, begin + len(choice) - 1)]
                first = 0 if question.first_scored else 1
                for column, token in list(zip(columns, choice, strict=True))[first:]:
                    yield place, column, token, count
                begin += len(choice) - 1
                count += 1
