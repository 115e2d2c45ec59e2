"""Rows of different length shown to a network, and read on from where they were.

There are three ways, from fast to plain, with the same answers. `abilities` finds by trying which of them a network
allows.

- `Padded`: all rows in one batch with their keys and values kept. Rows are padded on the left, so that the distance
  between two tokens is the same in every batch: attention over a window then sees the same tokens whatever the padding.
  The shared beginning of all rows can be read once for all batches; the padding then stands behind it. An encoder reads
  rows padded on the right, and the decoder reads on.
- `Grouped`: rows of equal length in one batch with their keys and values kept, and no padding before them.
- `Plain`: every row alone from its start, each time. Nothing is kept and nothing padded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from cuvee.evaluation.caches import join_rows, select_rows, trim_columns
from cuvee.evaluation.library import Network, select_encoded

Rows = Sequence[Sequence[int]]


class Seen(Protocol):
    """A network's memory of some rows; `logits`, [rows, vocabulary], are those after each row's last token."""

    @property
    def logits(self) -> torch.Tensor: ...

    def select(self, rows: torch.Tensor) -> "Seen":
        """Pick rows, some perhaps more than once. The original stays as it is."""
        ...

    def read_on(
        self, ids: torch.Tensor, lengths: torch.Tensor | None = None, *, last_only: bool = False
    ) -> tuple[torch.Tensor, "Seen"]:
        """Show more tokens, [rows, n]; return their logits, [rows, n or 1, vocabulary], and the memory after them.

        Uses this object up. With `lengths`, rows are padded on the right: logits behind a row's end mean nothing, and
        nothing may be read after them.
        """
        ...


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for each row, and which of it are tokens."""

    states: Any
    mask: torch.Tensor

    def select(self, rows: torch.Tensor) -> "Encoded":
        return Encoded(select_encoded(self.states, rows), self.mask[rows])


@dataclass(frozen=True)
class Padded:
    """One batch with its cache: which places are tokens, and how many tokens each row has.

    `mask` is None where no row is padded. `most` is the number of positions that the network has.
    """

    network: Network
    cache: Any
    mask: torch.Tensor | None
    lengths: torch.Tensor
    width: int
    logits: torch.Tensor
    most: int
    encoded: Encoded | None = None

    @staticmethod
    @torch.inference_mode()
    def read(network: Network, rows: Rows, most: int, after: "Padded | None" = None) -> "Padded":
        """Show each row to the network from its start, or after the row that was seen for all of them."""
        if network.encoder_decoder:
            return _encode(network, rows, most)
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=network.device)
        padding = [width - len(row) for row in rows]
        unread = _unread(network, len(rows), most) if after is None else after.repeated(len(rows))
        return unread._show(ids, padding if any(padding) else None, last_only=True)[1]

    def repeated(self, rows: int) -> "Padded":
        """Return a batch of so many copies of the first row."""
        return self.select(torch.zeros(rows, dtype=torch.long, device=self.network.device))

    def select(self, rows: torch.Tensor) -> "Padded":
        mask = None if self.mask is None else self.mask[rows]
        encoded = None if self.encoded is None else self.encoded.select(rows)
        cache = select_rows(self.cache, rows)
        return Padded(self.network, cache, mask, self.lengths[rows], self.width, self.logits[rows], self.most, encoded)

    def join(self, other: "Padded") -> "Padded":
        """Return a batch with its own rows and then those of another. Uses both up; not for an encoder."""
        width = max(self.width, other.width)
        mask = None
        if self.width != other.width or self.mask is not None or other.mask is not None:
            mask = torch.cat([self._mask_of(width), other._mask_of(width)])
        cache = join_rows(self.cache, other.cache, width)
        lengths, logits = torch.cat([self.lengths, other.lengths]), torch.cat([self.logits, other.logits])
        return Padded(self.network, cache, mask, lengths, width, logits, self.most)

    def trim(self) -> "Padded":
        """Return the batch without the columns in which every row is padding. Uses this batch up."""
        if self.mask is None:
            return self
        padding = int(self.mask.argmax(dim=1).min())
        if not padding:
            return self
        mask = self.mask[:, padding:]
        whole = bool(mask.all())
        cache = trim_columns(self.cache, padding)
        return replace(self, cache=cache, mask=None if whole else mask, width=self.width - padding)

    def _mask_of(self, width: int) -> torch.Tensor:
        mask = torch.ones(len(self.lengths), self.width, dtype=torch.long, device=self.network.device)
        return torch.nn.functional.pad(mask if self.mask is None else self.mask, (width - self.width, 0))

    @torch.inference_mode()
    def read_on(
        self,
        ids: torch.Tensor,
        lengths: torch.Tensor | None = None,
        *,
        padding: Sequence[int] | None = None,
        last_only: bool = False,
    ) -> tuple[torch.Tensor, "Padded"]:
        """Show more tokens. So many tokens of each row are `padding` on the left, behind what the row has been."""
        if self.network.by_token and ids.shape[1] > 1:
            return self._read_by_token(ids)
        if self.encoded is not None:
            logits = self.network.logits(ids, cache=self.cache, mask=self.encoded.mask, encoded=self.encoded.states)
            return logits, self._grown(ids.shape[1], logits)
        return self._show(ids, padding, last_only=last_only)

    def _show(
        self, ids: torch.Tensor, padding: Sequence[int] | None, *, last_only: bool
    ) -> tuple[torch.Tensor, "Padded"]:
        count = ids.shape[1]
        before = torch.zeros_like(self.lengths) if padding is None else torch.tensor(padding, device=ids.device)
        columns = torch.arange(count, device=ids.device) - before[:, None]
        mask = None
        if self.mask is not None or padding is not None:
            mask = torch.cat([self._mask_of(self.width), (columns >= 0).long()], dim=1)
        logits = self.network.logits(
            ids,
            cache=self.cache,
            mask=mask,
            # Padding may run past the last position that the network has an embedding for; nobody looks there.
            positions=(self.lengths[:, None] + columns.clamp(min=0)).clamp(max=self.most - 1),
            last=int(last_only),
        )
        grown = self._grown(count, logits)
        return logits, replace(grown, mask=mask, lengths=grown.lengths - before)

    def _read_by_token(self, ids: torch.Tensor) -> tuple[torch.Tensor, "Padded"]:
        seen, columns = self, []
        for place in range(ids.shape[1]):
            logits, seen = seen.read_on(ids[:, place : place + 1])
            columns.append(logits[:, -1:])
        return torch.cat(columns, dim=1), seen

    def _grown(self, count: int, logits: torch.Tensor) -> "Padded":
        lengths, width = self.lengths + count, self.width + count
        return replace(self, lengths=lengths, width=width, logits=logits[:, -1].float())


def _unread(network: Network, rows: int, most: int) -> Padded:
    """Return a batch of rows of which nothing was read."""
    no_tokens = torch.zeros(rows, dtype=torch.long, device=network.device)
    no_logits = torch.zeros(rows, 0, device=network.device)
    return Padded(network, network.new_cache(), None, no_tokens, 0, no_logits, most)


def _encode(network: Network, rows: Rows, most: int) -> Padded:
    width = max(map(len, rows))
    ids = torch.tensor([list(row) + [0] * (width - len(row)) for row in rows], device=network.device)
    lengths = torch.tensor([len(row) for row in rows], device=network.device)
    mask = (torch.arange(width, device=network.device) < lengths[:, None]).long()
    encoded = Encoded(network.encode(ids, mask), mask)
    unread = replace(_unread(network, len(rows), most), encoded=encoded)
    start = torch.full((len(rows), 1), network.start_token, device=network.device)
    return unread.read_on(start)[1]


@dataclass(frozen=True)
class Grouped:
    """Rows in batches of equal length. `members` are the rows of each batch."""

    members: tuple[torch.Tensor, ...]
    batches: tuple[Seen, ...]

    @staticmethod
    def read(rows: Rows, read: Callable[[Rows], Seen], device: torch.device) -> "Grouped":
        """Show rows to a network by `read`, those of equal length together."""
        by_length: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(place)
        members = tuple(torch.tensor(places, device=device) for places in by_length.values())
        batches = tuple(read([rows[place] for place in places]) for places in by_length.values())
        return Grouped(members, batches)

    @property
    def logits(self) -> torch.Tensor:
        return self._joined([batch.logits for batch in self.batches])

    def select(self, rows: torch.Tensor) -> "Grouped":
        members, batches = [], []
        for own, batch in zip(self.members, self.batches, strict=True):
            hits = (rows[:, None] == own[None, :]).nonzero()
            if len(hits):
                members.append(hits[:, 0])
                batches.append(batch.select(hits[:, 1]))
        return Grouped(tuple(members), tuple(batches))

    def read_on(
        self, ids: torch.Tensor, lengths: torch.Tensor | None = None, *, last_only: bool = False
    ) -> tuple[torch.Tensor, "Grouped"]:
        logits, batches = [], []
        for own, batch in zip(self.members, self.batches, strict=True):
            own_lengths = None if lengths is None else lengths[own]
            own_logits, grown = batch.read_on(ids[own], own_lengths, last_only=last_only)
            logits.append(own_logits[:, -1:] if last_only else own_logits)
            batches.append(grown)
        return self._joined(logits), Grouped(self.members, tuple(batches))

    def _joined(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        joined = torch.cat(tensors)
        return joined[torch.argsort(torch.cat(self.members))]


@dataclass(frozen=True)
class Plain:
    """Rows of tokens with nothing kept of them. `prompts` are the encoder's input for each row."""

    network: Network
    rows: tuple[tuple[int, ...], ...]
    logits: torch.Tensor
    prompts: tuple[tuple[int, ...], ...] | None = None

    @staticmethod
    def read(network: Network, rows: Rows) -> "Plain":
        """Show each row to the network alone."""
        tokens = tuple(map(tuple, rows))
        if network.encoder_decoder:
            starts = tuple((network.start_token,) for _ in tokens)
            return Plain._of(network, starts, tokens)
        return Plain._of(network, tokens, None)

    @staticmethod
    def _of(
        network: Network, rows: tuple[tuple[int, ...], ...], prompts: tuple[tuple[int, ...], ...] | None
    ) -> "Plain":
        shown = [(row, None if prompts is None else prompts[place]) for place, row in enumerate(rows)]
        logits = torch.stack([plain_logits(network, row, prompt)[-1] for row, prompt in shown])
        return Plain(network, rows, logits.float(), prompts)

    def select(self, rows: torch.Tensor) -> "Plain":
        places = rows.tolist()
        prompts = None if self.prompts is None else tuple(self.prompts[place] for place in places)
        return Plain(self.network, tuple(self.rows[place] for place in places), self.logits[rows], prompts)

    def read_on(
        self, ids: torch.Tensor, lengths: torch.Tensor | None = None, *, last_only: bool = False
    ) -> tuple[torch.Tensor, "Plain"]:
        count = ids.shape[1]
        ends = [count] * len(self.rows) if lengths is None else lengths.tolist()
        grown = tuple((*row, *ids[place, : ends[place]].tolist()) for place, row in enumerate(self.rows))
        logits = []
        for place, row in enumerate(grown):
            prompt = None if self.prompts is None else self.prompts[place]
            own = plain_logits(self.network, row, prompt)[len(self.rows[place]) :]
            logits.append(torch.nn.functional.pad(own, (0, 0, 0, count - ends[place])))
        joined = torch.stack(logits)
        seen = Plain(self.network, grown, joined[:, -1].float(), self.prompts)
        return joined[:, -1:] if last_only else joined, seen


@torch.inference_mode()
def plain_logits(network: Network, row: Sequence[int], prompt: Sequence[int] | None = None) -> torch.Tensor:
    """Return the logits at every place of one row, [n, vocabulary]: no cache, no padding, no mask, no other row.

    The row is the decoder's where an encoder reads a `prompt`, in the same call: an FSMT whose encoder has read it
    before lets a token of the row see those that follow.
    """
    ids = torch.tensor([list(row)], device=network.device)
    if network.alone_from is not None and not network.encoder_decoder:
        network.logits(ids[:, :1])  # rotary positions stay as the longest row before has left them, until a short one
    if prompt is None:
        return network.logits(ids)[0]
    return network.logits(ids, prompt=torch.tensor([list(prompt)], device=network.device))[0]
