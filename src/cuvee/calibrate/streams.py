"""Hidden states of texts on their way through a model's blocks, batch after batch; on the disk where they are many."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cuvee.calibrate.text import Document, Positions

Tensor = torch.Tensor

MOST_POSITIONS = 2048
"""Positions of a batch, unless a single document has more."""


@dataclass(frozen=True)
class Batch:
    """Documents of one length, so that nothing is padded. `counted` says which positions count, [rows * length].

    Where an encoder reads it, `answers` is the batch that the decoder reads.
    """

    ids: Tensor
    counted: Tensor
    held_out: bool
    answers: "Batch | None" = None

    @property
    def rows(self) -> int:
        return int(self.ids.shape[0])

    @property
    def length(self) -> int:
        return int(self.ids.shape[1])


def batches_of(
    documents: Sequence[Document], wanted: Positions, *, hold_out: int = 0, most: int = MOST_POSITIONS
) -> list[Batch]:
    """Put documents of one length together. Every `hold_out`th document is held out; 0 holds out none."""
    groups: dict[tuple[int, bool], list[Document]] = {}
    for number, document in enumerate(documents, start=1):
        held_out = hold_out > 0 and number % hold_out == 0
        groups.setdefault((len(document.ids), held_out), []).append(document)
    batches = []
    for (length, held_out), group in sorted(groups.items()):
        rows = max(1, most // max(length, 1))
        for start in range(0, len(group), rows):
            batches.append(_batch(group[start : start + rows], wanted, held_out))
    return batches


def _batch(documents: Sequence[Document], wanted: Positions, held_out: bool) -> Batch:
    ids = torch.tensor([document.ids for document in documents])
    counted = torch.tensor([document.positions(wanted) for document in documents]).reshape(-1)
    return Batch(ids, counted, held_out)


class Stream:
    """Hidden states [positions, width] of all batches, in float32. On the disk, in `folder`, if there is any.

    `encoded` is the encoder's output stream, where this stream goes through the decoder after it.
    """

    def __init__(
        self, batches: Sequence[Batch], width: int, folder: Path | None, encoded: "Stream | None" = None
    ) -> None:
        self.encoded = encoded
        self._starts = [0]
        for batch in batches:
            self._starts.append(self._starts[-1] + batch.rows * batch.length)
        size = self._starts[-1] * width
        if folder is None:
            self._states = torch.empty(size).reshape(-1, width)
        else:
            with tempfile.NamedTemporaryFile(dir=folder, prefix="stream-") as file:
                file.truncate(size * 4)
                self._states = torch.from_file(file.name, shared=True, size=size).reshape(-1, width)

    def __getitem__(self, batch: int) -> Tensor:
        """Return the states of a batch, [positions, width].

        They are a copy: the input of a block must stay as it was when the batch moves on, for some of its maps see
        the very tensor that it was given, and must outlast a block that changes it in place.
        """
        return self._states[self._starts[batch] : self._starts[batch + 1]].clone()

    def __setitem__(self, batch: int, states: Tensor) -> None:
        self._states[self._starts[batch] : self._starts[batch + 1]] = states.reshape(-1, self._states.shape[1]).cpu()

    def encoded_rows(self, batch: int, rows: int) -> Tensor | None:
        """Return the encoder's output for a batch, [rows, length there, width]; None where there is no encoder."""
        if self.encoded is None:
            return None
        return self.encoded[batch].reshape(rows, -1, self._states.shape[1])

    def distance(self, other: "Stream") -> float:
        """Return the squared distance from another stream, relative to the other's length."""
        apart = size = 0.0
        parts = torch.split(self._states, MOST_POSITIONS), torch.split(other._states, MOST_POSITIONS)
        for own, theirs in zip(*parts, strict=True):
            apart += float((own - theirs).double().square().sum())
            size += float(theirs.double().square().sum())
        return apart / size if size else 0.0


def stream_bytes(batches: Sequence[Batch], width: int) -> int:
    """Return the bytes of a stream, with those of the decoder where there are two."""
    answers = sum(batch.answers.ids.numel() for batch in batches if batch.answers is not None)
    return 4 * width * (answers + sum(batch.rows * batch.length for batch in batches))


def held_out(batches: Sequence[Batch]) -> Iterator[int]:
    """Give the numbers of the batches that are held out."""
    return (number for number, batch in enumerate(batches) if batch.held_out)
