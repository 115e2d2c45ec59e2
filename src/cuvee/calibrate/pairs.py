"""Prompts and answers in batches of their own, for a model whose encoder reads prompts and whose decoder answers."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cuvee.calibrate.network import BlockNetwork
from cuvee.calibrate.streams import MOST_POSITIONS, Batch, Stream
from cuvee.calibrate.text import Document
from cuvee.calibrate.two_sided import TwoSidedNetwork

Pair = tuple[Sequence[int], Sequence[int]]
"""The token ids that the encoder reads, and those that the decoder reads."""


def paired_batches(
    documents: Sequence[Document], start_token: int, *, hold_out: int = 0, most: int = MOST_POSITIONS
) -> list[Batch]:
    """Put documents whose prompts and answers are of a common length together; all positions count.

    The decoder reads `start_token`, and then the answer without its last token. Every `hold_out`th document is held
    out; 0 holds out none.
    """
    groups: dict[tuple[int, int, bool], list[Pair]] = {}
    for number, document in enumerate(documents, start=1):
        held_out = hold_out > 0 and number % hold_out == 0
        prompt, answer = document.ids[: document.answer_from], document.ids[document.answer_from :]
        pair = prompt, (start_token, *answer[:-1])
        groups.setdefault((len(prompt), len(answer), held_out), []).append(pair)
    batches = []
    for (length, answer_length, held_out), group in sorted(groups.items()):
        rows = max(1, most // max(length, answer_length))
        for start in range(0, len(group), rows):
            batches.append(_batch(group[start : start + rows], held_out))
    return batches


def _batch(pairs: Sequence[Pair], held_out: bool) -> Batch:
    prompts, answers = zip(*pairs, strict=True)
    return Batch(*_counted(prompts), held_out, Batch(*_counted(answers), held_out))


def _counted(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor(rows)
    return ids, torch.ones(ids.numel(), dtype=torch.bool)


def answers_of(batches: Sequence[Batch]) -> list[Batch]:
    """Return the batches that the decoder reads."""
    return [batch.answers for batch in batches if batch.answers is not None]


def turned(
    network: BlockNetwork, stream: Stream, prompts: Sequence[Batch], answers: Sequence[Batch], folder: Path | None
) -> Stream:
    """Return the decoder's stream for that of the encoder, which then holds the encoder's output."""
    assert isinstance(network, TwoSidedNetwork), "a model without an encoder has no turn"
    for number, batch in enumerate(prompts):
        stream[number] = network.encoded(stream[number].reshape(batch.rows, batch.length, -1))
    after = Stream(answers, network.width, folder, encoded=stream)
    for number, hidden in enumerate(network.answer_starts(batch.ids for batch in answers)):
        after[number] = hidden
    return after
