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
from cuvee.evaluation.reading import Reading


class Way(NamedTuple):
    """How rows are read, by the names in `forward`, and the network with the keywords that go with it."""

    name: Literal["padded", "grouped", "alone"]
    network: Network


class Abilities:
    """The abilities of a network. `most_tokens` is how many it sees at once; `name` is said in errors."""

    def __init__(self, module: Any, *, name: str, encoder_decoder: bool, start_token: int, most_tokens: int) -> None:
        self._name = name
        self._bare = Network(module, encoder_decoder, start_token, alone_from=alone_from(module))
        self._most = most_tokens
        self._windows = windows(module)
        self._ways: dict[int, Way] = {}
        self._joins: dict[int, bool] = {}
        self._answers: trial.Answers = {}

    @property
    def reading(self) -> Reading:
        """How much was read so far, and by which ways."""
        return self._bare.reading

    @cached_property
    def network(self) -> Network:
        """The network with the keywords that it heeds. Raises EvaluationError for a network that cannot run at all."""
        with blaming(self._name, "run"):
            return trial.heeded_keywords(self._bare, self._probe)

    def way(self, width: int) -> Way:
        """Return the fastest way to read rows of up to `width` tokens, those that are read later among them."""
        if self._stands_alone(width):
            return Way("alone", self.network)
        reach = self._reach(width)
        if reach not in self._ways:
            self._ways[reach] = self._fastest(reach)
        return self._ways[reach]

    def joins(self, width: int) -> bool:
        """Whether rows of up to `width` tokens may enter and leave a batch while others in it are being written on."""
        way = self.way(width)
        if way.name != "padded" or self._bare.encoder_decoder:
            return False
        reach = self._reach(width)
        if reach not in self._joins:
            probe = self._make_probe(long=reach + trial.LONG)
            read = partial(Padded.read, way.network, most=self._most)
            self._joins[reach] = trial.joins_right(way.network, probe, read)
        return self._joins[reach]

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
    def _probe(self) -> trial.Probe:
        return self._make_probe()

    def _make_probe(self, *, long: int = trial.LONG, alike: bool = False) -> trial.Probe:
        return trial.make_probe(self._bare, self._answers, long=long, alike=alike)

    def _fastest(self, reach: int) -> Way:
        probe = self._make_probe(long=reach + trial.LONG)
        network = self.network
        if probe.tokens <= self._most and network.cache_keyword is not None:
            for caching in (network, replace(network, by_token=True)):
                for way in (Way("padded", caching), Way("grouped", caching)):
                    if trial.reads_right(network, probe, partial(self._read, way)):
                        return way
        return Way("alone", network)

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
        probe = self._probe
        return probe.tokens <= self._most and trial.branches_right(self.network, probe)

    @cached_property
    def _shares_start(self) -> bool:
        probe = self._make_probe(alike=True)
        if probe.tokens > self._most or self.way(probe.tokens) != Way("padded", self.network):
            return False
        start = self.read_padded([probe.long[: trial.START]])

        def read(rows: Rows) -> Seen:
            return self.read_padded([row[trial.START :] for row in rows], start)

        if not trial.reads_right(self.network, probe, read):
            return False
        return not self._branches or trial.branches_right(self.network, probe, start)
