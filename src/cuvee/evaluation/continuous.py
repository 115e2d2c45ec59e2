"""Rows written on together: a row that has come to its end leaves the batch, and another enters.

As in Orca (Yu et al. 2022, OSDI, section 3.2, iteration-level scheduling). A batch that waits for the longest of its
texts would compute mostly for rows that have ended long before.
"""

from collections import deque
from collections.abc import Sequence

import torch

from cuvee.errors import EvaluationError
from cuvee.evaluation.forward import Padded, Seen
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Tokens
from cuvee.evaluation.sampling import Sampler
from cuvee.evaluation.shared import SharedStart

LOOK_EVERY = 4  # decoding to look for stop strings costs as much as a step of a small model

TURNOVER = 8
"""Rows enter when one in so many lines is free: each time the keys and values of all lines are copied."""


@torch.inference_mode()
def write(
    model: LanguageModel,
    rows: Sequence[Tokens],
    prompt: Prompt,
    sampler: Sampler,
    start: SharedStart,
    *,
    lines: int | None = None,
) -> list[Tokens]:
    """Write tokens after each row, without the end token. A few may follow a stop string.

    At most `lines` rows are written at a time, all without it. Where the network does not let rows enter a batch, they
    are written in batches, each after the last.
    """
    most = len(rows) if lines is None else lines
    width = max(map(len, rows)) + prompt.max_new_tokens
    joins = model.abilities.joins(width)
    together = len(rows) if joins else most
    written: list[Tokens] = []
    for first in range(0, len(rows), together):
        places = range(first, min(first + together, len(rows)))
        batch = _Batch(model, rows, prompt, sampler, start, trims=joins)
        batch.write(places, most)
        written += [batch.written[place] for place in places]
    return written


class _Batch:
    """The rows that are being written, and the network's memory of them, a line for each.

    `trims` says that padding before all lines is cut off as rows leave, which not every cache allows.
    """

    def __init__(
        self,
        model: LanguageModel,
        rows: Sequence[Tokens],
        prompt: Prompt,
        sampler: Sampler,
        start: SharedStart,
        *,
        trims: bool,
    ) -> None:
        self._model = model
        self._rows = rows
        self._prompt = prompt
        self._sampler = sampler
        self._start = start
        self._trims = trims
        self._lines: list[int] = []  # the row that each line belongs to
        self._going: set[int] = set()
        self._seen: Seen | None = None
        self.written: list[Tokens] = [[] for _ in rows]

    def write(self, places: Sequence[int], most: int) -> None:
        """Write rows to their ends, at most so many at a time."""
        waiting = deque(places)
        steps = 0
        while waiting or self._going:
            free = most - len(self._lines)
            if waiting and free * TURNOVER >= most:
                self._enter([waiting.popleft() for _ in range(min(free, len(waiting)))])
            tokens = self._pick()
            steps += 1
            if self._prompt.stop and steps % LOOK_EVERY == 0:
                self._going -= self._stopped()
            ended = len(self._lines) - len(self._going)
            if ended * TURNOVER >= len(self._lines):
                tokens = self._leave(tokens)
            if self._going and self._seen is not None:
                _, self._seen = self._seen.read_on(tokens[:, None], last_only=True)

    def _enter(self, rows: Sequence[int]) -> None:
        new = self._start.read([self._rows[row] for row in rows], follow=self._prompt.max_new_tokens)
        if isinstance(self._seen, Padded) and isinstance(new, Padded):
            new = self._seen.join(new)
        self._seen = new
        self._lines += rows
        self._going |= set(rows)

    def _pick(self) -> torch.Tensor:
        """Pick the next token of each line, and append it to each row that goes on."""
        if self._seen is None or self._seen.logits.isnan().any():
            raise EvaluationError("the model's output is not a number")
        most = self._prompt.max_new_tokens
        positions = [min(len(self.written[row]), most - 1) for row in self._lines]
        tokens = self._sampler.pick(self._seen.logits, self._lines, positions)
        for row, token in zip(self._lines, tokens.tolist(), strict=True):
            if row not in self._going:
                continue
            if token in self._model.end_tokens:
                self._going.discard(row)
                continue
            self.written[row].append(token)
            if len(self.written[row]) == most:
                self._going.discard(row)
        return tokens

    def _stopped(self) -> set[int]:
        rows = sorted(self._going)
        texts = decode(self._model, [self.written[row] for row in rows])
        stop = self._prompt.stop
        stopped = set()
        for row, text in zip(rows, texts, strict=True):
            if any(ending in text for ending in stop):
                stopped.add(row)
        return stopped

    def _leave(self, tokens: torch.Tensor) -> torch.Tensor:
        """Let the rows that have ended leave, and return the tokens of those that stay."""
        staying = [line for line, row in enumerate(self._lines) if row in self._going]
        self._lines = [self._lines[line] for line in staying]
        if not staying or self._seen is None:
            self._seen = None
            return tokens[:0]
        lines = torch.tensor(staying, device=self._model.device)
        self._seen = self._seen.select(lines)
        if self._trims and isinstance(self._seen, Padded):
            self._seen = self._seen.trim()
        return tokens[lines]


def decode(model: LanguageModel, rows: Sequence[Tokens]) -> list[str]:
    """Return the texts of rows of tokens, without special tokens."""
    if not rows:
        return []  # the tokenizer makes one empty text of no rows
    texts: list[str] = model.tokenizer.batch_decode(
        list(rows), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts
