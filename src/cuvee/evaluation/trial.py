"""Each fast way tried beside the plain one, on a few tokens of a loaded network.

The plain way shows whole sequences one at a time: no cache, no padding, no mask. A fast way is right if it gives the
same logits within what the network's own rounding explains.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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

LONG, SHORT, CHOICE = 12, 5, 4
"""Tokens of the longer and of the shorter row that are tried, and of what is read after them."""

START = 4
"""Tokens that both rows begin with where a start is read once."""

ROUNDING_STEPS, MOST_ROUNDING_STEPS = 4, 16
LEAST_SHARE = 1e-5
"""Logits may differ by so many rounding steps of the largest one, or by this share of it where that is more. A network
of many layers rounds more: see `own_rounding`."""


Answers = dict[tuple[int, ...], torch.Tensor]
"""Logits of the plain way by the tokens of a row, kept, as several trials ask for the same."""


@dataclass(frozen=True)
class Probe:
    """What is tried: a longer and a shorter row, which begin alike or do not, and two choices to read after them.

    `answers` keeps what the plain way gave. `steps` is by how many rounding steps logits may differ.
    """

    long: list[int]
    short: list[int]
    choice: list[int]
    other: list[int]
    steps: float = ROUNDING_STEPS
    answers: Answers = field(default_factory=dict, compare=False, repr=False)

    def plain_after(self, network: Network, prefix: Sequence[int], choice: Sequence[int]) -> torch.Tensor:
        """Return the logits after a prefix and after each token of what follows, by the plain way."""
        row = (*prefix, -1, *choice)
        if row not in self.answers:
            self.answers[row] = plain_after(network, prefix, choice)
        return self.answers[row]

    @property
    def rows(self) -> list[Row]:
        """Two questions that begin alike in one row, and one of them alone in another, which is shorter."""
        stem = len(self.long) - 2
        begun_alike = Question([*self.long[:stem], *self.short[-1:]], (self.other,))
        return [Row((Question(self.long, (self.choice, self.other)), begun_alike), stem), Row((begun_alike,))]

    @property
    def tokens(self) -> int:
        """How many tokens the longest row of a trial has."""
        return max(row.tokens for row in self.rows)


def make_probe(network: Network, answers: Answers, *, long: int = LONG, alike: bool = False) -> Probe:
    """Choose ordinary tokens: none that pads, ends a text or stands for a picture."""
    special = special_tokens(network)
    ordinary = [token for token in range(1, min(vocabulary_size(network), 200)) if token not in special] or [0]

    def tokens(length: int, offset: int) -> list[int]:
        return [ordinary[(7 * place + place // 5 + offset) % len(ordinary)] for place in range(length)]

    long_row = tokens(long, 0)
    short_row = [*long_row[:START], *tokens(2, 9)] if alike else tokens(SHORT, 2)
    probe = Probe(long_row, short_row, tokens(CHOICE, 4), tokens(CHOICE, 17), answers=answers)
    if least_steps(network.module.dtype) >= MOST_ROUNDING_STEPS:
        return probe
    return replace(probe, steps=min(MOST_ROUNDING_STEPS, max(ROUNDING_STEPS, 2 * own_rounding(network, probe))))


def least_steps(dtype: torch.dtype) -> float:
    """Return how many rounding steps of a type LEAST_SHARE is: 84 of float32, where own rounding needs no measuring."""
    return LEAST_SHARE / torch.finfo(dtype).eps


def own_rounding(network: Network, probe: Probe) -> float:
    """Return by how many rounding steps the plain way differs from itself.

    What a row's tokens are followed by changes nothing in exact numbers, but libraries multiply rows of other lengths
    in another order. In 16 bits the difference grows with the layers: about 5 steps for 30 of them.
    """
    steps = 0.0
    for row in (probe.long, probe.short):
        whole = probe.plain_after(network, row, probe.choice)
        for place in range(len(probe.choice)):
            cut = probe.plain_after(network, row, probe.choice[:place])
            steps = max(steps, float(rounding_steps(cut[-1], whole[place]).max()))
    return steps


def heeded_keywords(network: Network, probe: Probe) -> Network:
    """Return the network with the keywords that it heeds: its answer counts, for it swallows what it does not know.

    Raises whatever transformers raises for a network that cannot be run without any keyword.
    """
    plain = probe.plain_after(network, probe.long, probe.choice)
    ids = torch.tensor([probe.long], device=network.device)
    if network.encoder_decoder:
        with torch.inference_mode():
            encoded = network.encode(ids, None)
        return _with_cache(network, ids, encoded)
    steps = probe.steps
    return _with_all_keywords(network, ids, plain[0], steps) or _with_each_keyword(network, ids, plain[0], steps)


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
        except Exception:  # noqa: BLE001  # networks refuse what they cannot do by errors of every kind
            continue
        if held_bytes(cache) > empty and logits.shape[1] == 1 and agree(logits[0, -1], plain, steps):
            return _keeping(heeding, cache, ids)
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
            return _keeping(keeping, cache, ids)
    return network


def _keeping(network: Network, cache: Any, ids: torch.Tensor) -> Network:
    """Return a network with what its cache, filled with one row, shows of it."""
    tokens = ids.shape[1]
    return replace(network, attends_only=attends_only(cache, tokens), kept_bytes=held_bytes(cache) // tokens)


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


def reads_right(network: Network, probe: Probe, read: Callable[[Rows], Seen]) -> bool:
    """Whether rows that are read together, picked, and read on give the logits of the plain way.

    What was seen must stay as it is when rows are picked from it and read on.
    """
    long = probe.plain_after(network, probe.long, probe.choice)
    short = probe.plain_after(network, probe.short, probe.choice)
    part = len(probe.choice) // 2
    picked = torch.tensor([0, 0, 1], device=network.device)
    ids = torch.tensor([probe.choice, [*probe.choice[:part], *[0] * part], probe.choice], device=network.device)
    lengths = torch.tensor([len(probe.choice), part, len(probe.choice)], device=network.device)

    def right() -> bool:
        seen = read([probe.long, probe.short])
        logits, _ = seen.select(picked).read_on(ids, lengths)
        again, _ = seen.select(picked[2:]).read_on(ids[2:], last_only=True)
        pairs = (
            (seen.logits[0], long[0]),
            (seen.logits[1], short[0]),
            (logits[0], long[1:]),
            (logits[1, :part], long[1 : part + 1]),
            (logits[2], short[1:]),
            (again[0, -1], short[-1]),
        )
        return all(agree(found, plain, probe.steps) for found, plain in pairs)

    return _tried(right)


def joins_right(network: Network, probe: Probe, read: Callable[[Rows], Padded]) -> bool:
    """Whether a row that enters while another is being written on, and stays when that leaves, has its own logits.

    Either row is tried as the one that enters: the longer one then brings padding, or takes it away as it leaves.
    """

    def right(first: Sequence[int], second: Sequence[int]) -> bool:
        expected = [probe.plain_after(network, row, probe.choice) for row in (first, second)]
        one, two, three, _ = probe.choice
        _, seen = read([first]).read_on(torch.tensor([[one]], device=network.device))
        both, seen = seen.join(read([second])).read_on(torch.tensor([[two], [one]], device=network.device))
        rest = seen.select(torch.tensor([1], device=network.device)).trim()
        after, rest = rest.read_on(torch.tensor([[two]], device=network.device))
        last, _ = rest.read_on(torch.tensor([[three]], device=network.device))
        found = both[0, -1], both[1, -1], after[0, -1], last[0, -1]
        plain = expected[0][2], expected[1][1], expected[1][2], expected[1][3]
        return all(agree(*pair, probe.steps) for pair in zip(found, plain, strict=True))

    pairs = (probe.long, probe.short), (probe.short, probe.long)
    return _tried(lambda: all(right(*pair) for pair in pairs))


def branches_right(network: Network, probe: Probe, before: Padded | None = None) -> bool:
    """Whether the network heeds our mask in every layer, so that the choices in a row do not see each other.

    Recurrent layers carry their state from one choice to the next whatever the mask says; rounding to 16 bits can hide
    that, so only networks whose cache holds nothing but keys and values are tried.
    """
    if not network.attends_only:
        return False
    rows = probe.rows
    questions = [question for row in rows for question in row.questions]
    plain = [probe.plain_after(network, each.prefix, choice) for each in questions for choice in each.choices]

    def right() -> bool:
        logits = branched_logits(network, rows, before)
        return all(
            agree(logits[row, column], plain[choice][place], probe.steps)
            for row, column, choice, place in _with_places(rows)
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
