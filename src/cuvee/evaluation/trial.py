"""Each fast way tried beside the plain one, on a few tokens of a loaded network.

The plain way shows a whole sequence alone: no cache, no padding, no mask. A fast way is right if it gives the same
logits within what the network's own rounding explains.

A pass over a few tokens costs the reading of all weights. So all rows that are tried begin one and the same row, whose
plain logits serve for all of them, and `batches_right` tries at once what evaluation does with a batch. Only where it
fails do `reads_right` and `branches_right` find what is left.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from cuvee.evaluation.branches import branched_logits, scored_places
from cuvee.evaluation.caches import attends_only, held_bytes
from cuvee.evaluation.forward import Padded, Rows, Seen, plain_logits
from cuvee.evaluation.library import (
    CACHE_KEYWORDS,
    Network,
    special_tokens,
    vocabulary_size,
)
from cuvee.evaluation.question import Question
from cuvee.evaluation.stems import Row

LONG, SHORT = 12, 5
"""Tokens of the longer and of the shorter row that are tried."""

MORE = 6
"""Tokens that are read after either."""

LESS = 7
"""Behind a window a third row is tried, shorter than the longer by so many tokens: it reaches past the window, too, and
is padded by no multiple of the sizes of blocks."""

START = 4
"""Tokens that both rows begin with where a start is read for them alone."""

STEM = 6
"""About as many tokens begin questions that share a row."""

STRANGERS = 0
"""Place of the choice that is no part of the row."""

ROUNDING_STEPS, MOST_ROUNDING_STEPS = 4, 16
LEAST_SHARE = 1e-5
"""Logits may differ by so many rounding steps of the largest one, or by this share of it where that is more. A network
of many layers rounds more: see `own_rounding`."""

CUTS = (6, 8, 11)
"""Lengths at which the row is cut to see how much a network rounds; none is longer than SHORT + MORE."""


@dataclass(frozen=True)
class Probe:
    """What is tried: beginnings of one row, of which the longer has `long` tokens and the shorter SHORT.

    `strangers` are tokens of a choice that stands before others; nothing is asked after them. `steps` is by how many
    rounding steps logits may differ. `plain` keeps what the plain way gave, by how many tokens were read and followed.
    """

    network: Network
    row: list[int]
    long: int
    strangers: list[int]
    steps: float = ROUNDING_STEPS
    plain: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tokens(self) -> int:
        """How many tokens are tried at most."""
        return self.long + MORE

    @property
    def beginnings(self) -> Rows:
        """The longer and the shorter row, and behind a window one between them."""
        lengths = [self.long, SHORT] if self.long == LONG else [self.long, SHORT, self.long - LESS]
        return [self.row[:length] for length in lengths]

    def agrees(self, found: torch.Tensor, length: int, more: int = 0) -> bool:
        """Whether logits, [vocabulary], are those of `after` but for rounding."""
        return agree(found, self.after(length, more), self.steps)

    def after(self, length: int, more: int = 0) -> torch.Tensor:
        """Return the logits after the first `length` tokens and so many more, [vocabulary], by the plain way.

        An encoder reads the first, and its decoder those that follow.
        """
        place = (length, more) if self.network.encoder_decoder else (0, length + more)
        if place not in self.plain:
            self.plain.update(self._read_plain(place[0]))
        return self.plain[place]

    def _read_plain(self, length: int) -> dict[tuple[int, int], torch.Tensor]:
        if self.network.encoder_decoder:
            logits = plain_after(self.network, self.row[:length], self.row[length : length + MORE])
            return {(length, more): after for more, after in enumerate(logits)}
        logits = plain_logits(self.network, self.row)
        count = len(self.row)
        asked = {*range(min(LONG + MORE, count)), *range(self.long - LESS - 1, count)}  # all would fill memory
        return {(0, place + 1): logits[place].clone() for place in asked}

    def questions(self, stem: int) -> list[Row]:
        """Two questions in one row, which begin with almost `stem` tokens, and a shorter one alone in another."""
        first = Question(self.row[: stem + 2], (self.strangers, self.row[stem + 2 : stem + 5]))
        second = Question(self.row[: stem + 1], (self.row[stem + 1 : stem + 4],))
        alone = Question(self.row[:stem], (self.row[stem : stem + 3],))
        return [Row((first, second), stem - 1), Row((alone,))]


def make_probe(network: Network, *, most: int, long: int = LONG) -> Probe:
    """Choose ordinary tokens, at most `most`: none that pads, ends a text or stands for a picture."""
    special = special_tokens(network)
    ordinary = [token for token in range(1, min(vocabulary_size(network), 200)) if token not in special] or [0]

    def tokens(length: int, offset: int) -> list[int]:
        return [ordinary[(7 * place + place // 5 + offset) % len(ordinary)] for place in range(length)]

    row = [*tokens(long, 0), *tokens(MORE, 4)]
    probe = Probe(network, row[:most], long, tokens(3, 17))
    if least_steps(network.module.dtype) >= MOST_ROUNDING_STEPS:
        return probe
    return replace(probe, steps=min(MOST_ROUNDING_STEPS, max(ROUNDING_STEPS, 2 * own_rounding(probe))))


def least_steps(dtype: torch.dtype) -> float:
    """Return how many rounding steps of a type LEAST_SHARE is: 84 of float32, where own rounding needs no measuring."""
    return LEAST_SHARE / torch.finfo(dtype).eps


def own_rounding(probe: Probe) -> float:
    """Return by how many rounding steps the plain way differs from itself.

    What a row's tokens are followed by changes nothing in exact numbers, but libraries multiply rows of other lengths
    in another order. In 16 bits the difference grows with the layers: about 5 steps for 30 of them.
    """
    steps = 0.0
    read = SHORT if probe.network.encoder_decoder else 1
    for cut in CUTS:
        logits = plain_after(probe.network, probe.row[:read], probe.row[read:cut])
        for more, after in enumerate(logits):
            steps = max(steps, float(rounding_steps(after, probe.after(read, more)).max()))
    return steps


class Look(NamedTuple):
    """A network with the keywords that it heeds, and what it saw of a probe's beginnings if it reads them padded."""

    network: Network
    seen: Padded | None = None


def look(network: Network, probe: Probe, most: int) -> Look:
    """Find the keywords that a network heeds: its answer counts, for it swallows what it does not know.

    Raises whatever transformers raises for a network that cannot be run without any keyword.
    """
    probe.after(min(SHORT, len(probe.row)))
    ids = torch.tensor([probe.row[: probe.long]], device=network.device)
    if network.encoder_decoder:
        with torch.inference_mode():
            encoded = network.encode(ids, None)
        return Look(_with_cache(network, ids, encoded))
    padded = _with_padding(network, probe, most) if len(probe.row) == probe.tokens else None
    if padded is not None:
        return padded
    plain = probe.after(ids.shape[1])
    heeding = _with_all_keywords(network, ids, plain, probe.steps)
    return Look(heeding or _with_each_keyword(network, ids, plain, probe.steps))


@torch.inference_mode()
def _with_padding(network: Network, probe: Probe, most: int) -> Look | None:
    """Try all keywords at once on rows of different length, which most networks allow; None where one does not."""
    for keyword in CACHE_KEYWORDS:
        heeding = replace(network, takes_positions=True, takes_last_only=True, cache_keyword=keyword)
        try:
            empty = held_bytes(heeding.new_cache())
            seen = Padded.read(heeding, probe.beginnings, most)
        except Exception:  # noqa: BLE001  # networks refuse what they cannot do by errors of every kind
            continue
        if held_bytes(seen.cache) == empty:
            continue
        if not _agrees_with_beginnings(probe, seen):
            return None
        known = _keeping(heeding, seen.cache, len(seen.lengths), seen.width)
        return Look(known, replace(seen, network=known))
    return None


@torch.inference_mode()
def _with_all_keywords(network: Network, ids: torch.Tensor, plain: torch.Tensor, steps: float) -> Network | None:
    """Try all keywords at once, which most networks heed; None where one of them is not heeded."""
    positions = torch.arange(ids.shape[1], device=network.device)[None]
    for keyword in CACHE_KEYWORDS:
        heeding = replace(network, takes_positions=True, takes_last_only=True, cache_keyword=keyword)
        try:
            cache = heeding.new_cache()
            empty = held_bytes(cache)
            logits = heeding.logits(ids, cache=cache, positions=positions, last=1)
        except Exception:  # noqa: BLE001  # as above
            continue
        if held_bytes(cache) > empty and logits.shape[1] == 1 and agree(logits[0, -1], plain, steps):
            return _keeping(heeding, cache, *ids.shape)
    return None


def _with_each_keyword(network: Network, ids: torch.Tensor, plain: torch.Tensor, steps: float) -> Network:
    """Try one keyword after the other."""
    positions = torch.arange(ids.shape[1], device=network.device)[None]
    positioned = replace(network, takes_positions=True)
    if _tried(lambda: agree(positioned.logits(ids, positions=positions)[0, -1], plain, steps)):
        network = positioned
    shortened = replace(network, takes_last_only=True)
    if _tried(lambda: shortened.logits(ids, last=1).shape[1] == 1):
        network = shortened
    return _with_cache(network, ids, None)


def _with_cache(network: Network, ids: torch.Tensor, encoded: Any) -> Network:
    for keyword in CACHE_KEYWORDS:
        keeping = replace(network, cache_keyword=keyword)
        cache = _filled_cache(keeping, ids, encoded)
        if cache is not None:
            return _keeping(keeping, cache, *ids.shape)
    return network


def _keeping(network: Network, cache: Any, rows: int, tokens: int) -> Network:
    """Return a network with what its cache, filled with `rows` of `tokens`, shows of it."""
    kept = held_bytes(cache) // (rows * tokens)
    return replace(network, attends_only=attends_only(cache, tokens), kept_bytes=kept)


@torch.inference_mode()
def _filled_cache(network: Network, ids: torch.Tensor, encoded: Any) -> Any:
    """Return what the network has put into a cache, or None where it puts nothing there."""
    try:
        cache = network.new_cache()
        empty = held_bytes(cache)
        network.logits(ids, cache=cache, encoded=encoded, last=1)
    except Exception:  # noqa: BLE001  # as above
        return None
    return cache if held_bytes(cache) > empty else None


def batches_right(probe: Probe, seen: Callable[[], Padded], *, starts: bool = False) -> bool:
    """Whether a decoder's rows may do all that evaluation does with a batch: enter it, be written on, leave, read on.

    `seen` gives what was seen of the probe's beginnings, which must stay as it is when rows are picked from it. With
    `starts` rows are padded, too, behind a beginning that was read once.
    """

    def right() -> bool:
        beginnings = seen()
        return _agrees_with_beginnings(probe, beginnings) and _enters_and_leaves(probe, beginnings, starts=starts)

    return _tried(right)


def _enters_and_leaves(probe: Probe, beginnings: Padded, *, starts: bool) -> bool:
    """Whether rows of either beginning are written on in one batch, and then in another.

    In the first the longer row enters after the shorter, and the shorter after the longer. All leave it but one, after
    which the batch is trimmed and the longer enters again.
    """
    long, short = picked_rows(beginnings, [0]), picked_rows(beginnings, [1])
    batch, lengths = short.trim().join(long).join(short.trim()), [SHORT, probe.long, SHORT]
    logits, batch = batch.read_on(_columns(probe, lengths, 1), last_only=True)
    if not _all_agree(probe, logits[:, -1], [length + 1 for length in lengths]):
        return False
    batch, lengths = picked_rows(batch, [2]).trim().join(picked_rows(beginnings, [0])), [SHORT + 1, probe.long]
    return _reads_on(probe, batch, lengths, starts=starts)


class _Line(NamedTuple):
    """A row of a batch, by its place, that is read on by so many `tokens`, behind so many of `padding`."""

    place: int
    tokens: int
    padding: int = 0


def _reads_on(probe: Probe, batch: Padded, lengths: Sequence[int], *, starts: bool) -> bool:
    """Whether rows are read on by three tokens, and the last of them once more by one, padded on the right.

    With `starts` the first and the last are read on once more, too, padded on the left.
    """
    last = len(lengths) - 1
    lines = [_Line(place, 3) for place in range(len(lengths))] + [_Line(last, 1)]
    if starts:
        lines += [_Line(0, 2, padding=1), _Line(last, 2, padding=1)]
    width = max(line.padding + line.tokens for line in lines)
    rows = [[0] * line.padding + _next_tokens(probe, lengths[line.place], line.tokens) for line in lines]
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=probe.network.device)
    padding = [line.padding for line in lines] if starts else None
    ends = torch.tensor([len(row) for row in rows], device=ids.device)
    logits, _ = picked_rows(batch, [line.place for line in lines]).read_on(ids, ends, padding=padding)
    return all(
        probe.agrees(own[line.padding + place], lengths[line.place] + place + 1)
        for line, own in zip(lines, logits, strict=True)
        for place in range(line.tokens)
    )


def picked_rows(seen: Padded, rows: Sequence[int]) -> Padded:
    """Pick rows of what was seen by their places."""
    return seen.select(torch.tensor(rows, device=seen.network.device))


def _columns(probe: Probe, lengths: Sequence[int], count: int) -> torch.Tensor:
    """Return the next `count` tokens of beginnings of these lengths, [rows, count]."""
    return torch.tensor([_next_tokens(probe, length, count) for length in lengths], device=probe.network.device)


def _next_tokens(probe: Probe, length: int, count: int) -> list[int]:
    return probe.row[length : length + count]


def _agrees_with_beginnings(probe: Probe, seen: Seen) -> bool:
    return _all_agree(probe, seen.logits, list(map(len, probe.beginnings)))


def _all_agree(probe: Probe, logits: torch.Tensor, lengths: Sequence[int]) -> bool:
    return all(probe.agrees(own, length) for own, length in zip(logits, lengths, strict=True))


def reads_right(probe: Probe, read: Callable[[Rows], Seen]) -> bool:
    """Whether rows that are read together, picked, and read on give the logits of the plain way.

    What was seen must stay as it is when rows are picked from it and read on.
    """
    long, count, part = probe.long, 4, 2
    device = probe.network.device
    picked = torch.tensor([0, 0, 1], device=device)
    ids = _columns(probe, [long, long, SHORT], count)
    ids[1, part:] = 0
    lengths = torch.tensor([count, part, count], device=device)

    def right() -> bool:
        seen = read(probe.beginnings)
        logits, _ = seen.select(picked).read_on(ids, lengths)
        again, _ = seen.select(picked[2:]).read_on(ids[2:], last_only=True)
        found = [(seen.logits[place], len(row), 0) for place, row in enumerate(probe.beginnings)]
        found.append((again[0, -1], SHORT, count))
        found += [(logits[0, place], long, place + 1) for place in range(count)]
        found += [(logits[1, place], long, place + 1) for place in range(part)]
        found += [(logits[2, place], SHORT, place + 1) for place in range(count)]
        return all(probe.agrees(*own) for own in found)

    return _tried(right)


def branches_right(network: Network, probe: Probe, before: Padded | None = None) -> bool:
    """Whether the network heeds our mask in every layer, so that the choices in a row do not see each other.

    With `before`, rows are read after the longer of the beginnings. Recurrent layers carry their state from one choice
    to the next whatever the mask says; rounding to 16 bits can hide that, so only networks whose cache holds nothing
    but keys and values are tried.
    """
    if not network.attends_only:
        return False
    rows = probe.questions(STEM if before is None else before.width + 2)
    questions = [question for row in rows for question in row.questions]
    prefixes = [len(question.prefix) for question in questions for _ in question.choices]

    def right() -> bool:
        logits = branched_logits(network, rows, before)
        return all(
            probe.agrees(logits[row, column], prefixes[choice] + place)
            for row, column, choice, place in _with_places(rows)
            if choice != STRANGERS
        )

    return _tried(right)


def _with_places(rows: Sequence[Row]) -> Iterator[tuple[int, int, int, int]]:
    """Give row and column of each logit that is scored, the choice that it is of, and its place in that choice."""
    places: dict[int, int] = {}
    for row, column, _, choice in scored_places(rows):
        place = places.get(choice, 0)
        places[choice] = place + 1
        yield row, column, choice, place


def plain_after(network: Network, prefix: Sequence[int], choice: Sequence[int]) -> torch.Tensor:
    """Return the logits after a prefix and after each token of what follows, [1 + n, vocabulary], in the plain way."""
    if network.encoder_decoder:
        return plain_logits(network, [network.start_token, *choice], prefix)
    return plain_logits(network, [*prefix, *choice])[len(prefix) - 1 :]


def agree(found: torch.Tensor, plain: torch.Tensor, steps: float) -> bool:
    """Whether logits are the same but for so many rounding steps of their type."""
    most = max(steps, least_steps(plain.dtype))
    return bool((rounding_steps(found, plain) <= most).all())


def rounding_steps(found: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """Return how far logits are from those of the plain way, in rounding steps of the largest of these."""
    expected = plain.double()
    spread = (expected - expected.mean(-1, keepdim=True)).abs().max()
    return (found.double() - expected).abs() / (spread * torch.finfo(plain.dtype).eps)


@torch.inference_mode()
def _tried(attempt: Callable[[], bool]) -> bool:
    """Return what an attempt gives, and False where the network refuses it in any way."""
    try:
        return attempt()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:  # noqa: BLE001  # as above
        return False
