"""The abilities of a loaded network, found by trying when an answer is first needed, and kept.

A fast way is taken only for rows as long as those that were tried. Rows that reach past a window of attention get a
trial of their own, longer than the window, when the first such row comes along.
"""

from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

from cuvee.evaluation import trial
from cuvee.evaluation.forward import Grouped, Padded, Plain, Rows, Seen
from cuvee.evaluation.library import Network, alone_from, blaming, text_config, windows
from cuvee.evaluation.reading import Meter


class Way(NamedTuple):
    """How rows are read, by the names in `forward`, and the network with the keywords that go with it."""

    name: Literal["padded", "grouped", "alone"]
    network: Network


class Found(NamedTuple):
    """The fastest way for rows, whether they may enter and leave a batch in it, and whether behind a start, too."""

    way: Way
    joins: bool = False
    starts: bool = False


class Abilities:
    """The abilities of a network. `most_tokens` is how many it sees at once; `name` is said in errors."""

    def __init__(self, module: Any, *, name: str, encoder_decoder: bool, start_token: int, most_tokens: int) -> None:
        self._name = name
        self._bare = Network(module, encoder_decoder, start_token, alone_from=alone_from(module))
        self._most = most_tokens
        self._windows = windows(module)
        self._found: dict[int, Found] = {}

    @property
    def meter(self) -> Meter:
        """The counter of what is read, and by which ways."""
        return self._bare.meter

    @property
    def network(self) -> Network:
        """The network with the keywords that it heeds. Raises EvaluationError for a network that cannot run at all."""
        return self._look.network

    def forget_numbers(self) -> None:
        """Forget what the network answered, as it has other numbers now; what was found of it stays."""
        vars(self).pop("_probe", None)
        if "_look" in vars(self):
            vars(self)["_look"] = trial.Look(self.network)

    def way(self, width: int) -> Way:
        """Return the fastest way to read rows of up to `width` tokens, those that are read later among them."""
        if self._stands_alone(width):
            return Way("alone", self.network)
        return self._found_for(self._reach(width)).way

    def joins(self, width: int) -> bool:
        """Whether rows of up to `width` tokens may enter and leave a batch while others in it are being written on."""
        return not self._stands_alone(width) and self._found_for(self._reach(width)).joins

    def _reach(self, width: int) -> int:
        """Return the largest window that is smaller than rows of `width` tokens; 0 without any."""
        return max([0, *(window for window in self._windows if window < width)])

    def read(self, rows: Rows, *, follow: int = 0) -> Seen:
        """Show rows to the network by the fastest way that is right for them; up to `follow` tokens are read later."""
        return self._read(self.way(max(map(len, rows)) + follow), rows)

    def read_padded(self, rows: Rows, after: Padded | None = None) -> Padded:
        """Show rows to the network in one batch, perhaps after the row that was read for all of them."""
        return Padded.read(self.network, rows, self._most, after)

    def branches(self, width: int) -> bool:
        """Whether questions and their choices may stand behind each other in a row of `width` tokens, under a mask.

        Windows are counted by place in the row, so that a row which is longer than a window goes another way.
        """
        return self._within_windows(width) and self._branches

    @property
    def widest_row(self) -> int:
        """How many tokens a row may have in which several questions branch; 0 where none may."""
        alone = [] if self._bare.alone_from is None else [self._bare.alone_from - 1]
        widest = min([self._most, *self._windows, *alone])
        return widest if self.branches(widest) else 0

    def branches_behind_start(self, width: int) -> bool:
        """Whether questions may do so behind a start that was read once for all rows, of `width` tokens with it."""
        return self.branches(width) and self._branches_behind_start

    def shares_start(self, width: int) -> bool:
        """Whether rows of `width` tokens in all may be padded behind a start that was read once for all of them."""
        return self._within_windows(width) and self._shares_start

    @cached_property
    def kept_bytes(self) -> int:
        """How many bytes are kept for a token: those of a cache, or of plain states where there is none."""
        if self.network.cache_keyword is None:
            config = text_config(self._bare.module)
            return int(config.hidden_size * config.num_hidden_layers * self._bare.module.dtype.itemsize)
        return max(1, self.network.kept_bytes)

    @cached_property
    def _look(self) -> trial.Look:
        with blaming(self._name, "run"):
            return trial.look(self._bare, self._probe, self._most)

    @cached_property
    def _probe(self) -> trial.Probe:
        return trial.make_probe(self._bare, most=self._most)

    def _has_room(self, probe: trial.Probe) -> bool:
        return probe.tokens <= self._most

    def _found_for(self, reach: int) -> Found:
        if reach not in self._found:
            self._found[reach] = self._find(reach)
        return self._found[reach]

    def _find(self, reach: int) -> Found:
        probe = self._probe if not reach else trial.make_probe(self._bare, most=self._most, long=reach + trial.LONG)
        network = self.network
        if not self._has_room(probe) or network.cache_keyword is None:
            return Found(Way("alone", network))
        seen = self._look.seen if not reach else None
        if seen is not None and trial.batches_right(probe, lambda: seen, starts=True):
            return Found(Way("padded", network), joins=True, starts=True)
        found = self._find_with(network, probe, seen) or self._find_with(replace(network, by_token=True), probe)
        return found or Found(Way("alone", network))

    def _find_with(self, network: Network, probe: trial.Probe, seen: Padded | None = None) -> Found | None:
        padded, grouped = Way("padded", network), Way("grouped", network)

        def beginnings() -> Padded:
            return seen or Padded.read(network, probe.beginnings, self._most)

        if not network.encoder_decoder and trial.batches_right(probe, beginnings):
            return Found(padded, joins=True)
        for way in (padded, grouped):
            if trial.reads_right(probe, partial(self._read, way)):
                return Found(way)
        return None

    def _read(self, way: Way, rows: Rows) -> Seen:
        if way.name == "alone":
            return Plain.read(way.network, rows)
        padded = partial(Padded.read, way.network, most=self._most)
        if way.name == "padded":
            return padded(rows)
        return Grouped.read(rows, padded, way.network.device)

    def _stands_alone(self, width: int) -> bool:
        return self._bare.alone_from is not None and width >= self._bare.alone_from

    def _within_windows(self, width: int) -> bool:
        if self._bare.encoder_decoder or self._stands_alone(width):
            return False
        return all(width <= window for window in self._windows)

    @cached_property
    def _branches(self) -> bool:
        return self._has_room(self._probe) and trial.branches_right(self.network, self._probe)

    @cached_property
    def _branches_behind_start(self) -> bool:
        probe = self._probe
        seen = self._look.seen
        start = self.read_padded([probe.row[: probe.long]]) if seen is None else trial.picked_rows(seen, [0])
        return trial.branches_right(self.network, probe, start)

    @cached_property
    def _shares_start(self) -> bool:
        found = self._found_for(0)
        if found.starts or found.joins or found.way != Way("padded", self.network):
            return found.starts
        start = self.read_padded([self._probe.row[: trial.START]])

        def read(rows: Rows) -> Seen:
            return self.read_padded([row[trial.START :] for row in rows], start)

        return trial.reads_right(self._probe, read)
