"""Statistics of the inputs of each linear map of a model on a text: a single pass through its blocks, one in memory."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from cuvee.calibrate.network import BlockNetwork  # first, for it says which extra is missing

# isort: split
import ml_dtypes
import numpy as np
import torch

from cuvee.calibrate.fisher import fisher_diagonal
from cuvee.calibrate.sites import Linear, Site, find_sites, watched
from cuvee.calibrate.solve import MomentSum
from cuvee.calibrate.statistics import StatisticsWriter
from cuvee.calibrate.streams import MOST_POSITIONS, Batch, Stream, batches_of
from cuvee.calibrate.text import FEWEST_POSITIONS, Positions, Text
from cuvee.engine.peak import PeakMemory
from cuvee.errors import CheckpointError, EvaluationError, RecipeError
from cuvee.evaluation.model import TINY_PARAMETERS, Dtype
from cuvee.progress import Progress
from cuvee.statistics import FISHER, Figures, Kind, ModelRecord, Record, TextRecord
from cuvee.version import __version__
from cuvee.versions import installed_version

Tensor = torch.Tensor

KINDS: tuple[Kind, ...] = ("gram", "mean_abs", "mean")
"""The kinds that are kept if nobody says which."""

ALL_KINDS: tuple[Kind, ...] = (*KINDS, FISHER)
FORMS_OF_GRAM = 2
"""Tensors that a Gram matrix is stored in at the most: a factor and the rest."""

SEED = 0
"""Of the sample of positions that `rows` are."""


def _check_word(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise RecipeError(f"{name} '{value}' is none of {', '.join(words)}")


@dataclass(frozen=True)
class Collecting:
    """The kinds of statistics to keep, and of which positions.

    `rows` keeps so many positions in place of Gram matrices, `rank` so many of their strongest directions; not both.
    `dtype` is the type that maps are calculated in; products and sums are float32 and float64.
    """

    keep: tuple[Kind, ...] = KINDS
    positions: Positions = "all"
    length: int = 512
    rows: int | None = None
    rank: int | None = None
    dtype: Dtype = "float32"

    def check(self) -> None:
        """Raise RecipeError for values that are out of range or do not go together."""
        _check_word("positions", self.positions, get_args(Positions))
        _check_word("dtype", self.dtype, get_args(Dtype))
        hint = f"expected some of {','.join(ALL_KINDS)}"
        if not self.keep:
            raise RecipeError("nothing is to be kept", hint=hint)
        for kind in self.keep:
            if kind not in ALL_KINDS:
                raise RecipeError(f"cannot keep '{kind}'", hint=hint)
        if self.rows is not None and self.rank is not None:
            raise RecipeError("--rows and --rank are two forms of the same matrices: give one")
        if (self.rows or self.rank) and "gram" not in self.keep:
            raise RecipeError(
                "--rows and --rank are forms of Gram matrices, which are not to be kept", hint="keep gram"
            )


def collect(
    network: BlockNetwork, text: Text, out: Path, how: Collecting, *, model: ModelRecord, progress: Progress
) -> Record:
    """Run the text through the model and write statistics to `out`, which appears whole or not at all.

    Raises EvaluationError for too little text, CheckpointError that names the block for numbers that are not finite.
    """
    how.check()
    counted = text.counted(how.positions)
    if counted < FEWEST_POSITIONS:
        message = f"{counted} positions of it count; {FEWEST_POSITIONS} at least say enough"
        raise RecipeError(message, where=text.name, hint="give more text")
    start = time.perf_counter()
    with PeakMemory() as peak, _fitting_threads(network), StatisticsWriter(out, _most_tensors(network)) as writer:
        run = _Pass(network, text, how, writer)
        run.through_blocks(progress)
        loss, tokens = run.loss()
        length = _write_fisher(network, text, writer, progress) if FISHER in how.keep else None
        record = Record(
            model=model,
            text=TextRecord(
                name=text.name, digest=text.digest, documents=len(text.documents), tokens=text.tokens,
                counted=counted, positions=how.positions, length=how.length, unread=text.unread,
            ),
            keep=how.keep, rows=how.rows, rank=how.rank, loss=loss, loss_tokens=tokens, fisher_length=length,
            dtype=how.dtype, device=network.device.type,
            versions={"cuvee": __version__} | {name: installed_version(name) for name in ("torch", "transformers")},
            sites=run.sites,
            figures=Figures(seconds=time.perf_counter() - start, peak_memory_bytes=peak.bytes()),
        )  # fmt: skip
        writer.finish(record)
    return record


@contextmanager
def _fitting_threads(network: BlockNetwork) -> Iterator[None]:
    """Let a tiny model on a CPU run on one thread: more of them wait for each other longer than they work."""
    before = torch.get_num_threads()
    tiny = network.device.type == "cpu" and network.module.num_parameters() < TINY_PARAMETERS
    torch.set_num_threads(1 if tiny else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_fisher(network: BlockNetwork, text: Text, writer: StatisticsWriter, progress: Progress) -> float:
    """Write the diagonal of the Fisher information, and return its length over the whole model."""
    squares = 0.0
    for name, diagonal in fisher_diagonal(network, text, progress):
        rounded = diagonal.numpy().astype(ml_dtypes.bfloat16)
        squares += float((rounded.astype(np.float64) ** 2).sum())
        writer.add(f"{FISHER}/{name}", rounded)
    return float(squares**0.5)


def _most_tensors(network: BlockNetwork) -> int:
    """Return how many tensors of statistics there can be: some for every matrix of a block, one for every tensor."""
    matrices = sum(len(network.tensor_names(number)) for number in range(network.depth))
    return matrices * (FORMS_OF_GRAM + len(KINDS) - 1) + network.tensors_in_file


@dataclass
class _SiteSum:
    """Sums over the positions of a site that count."""

    size: int
    moments: MomentSum | None
    mean: Tensor
    mean_abs: Tensor
    count: int = 0
    rows: list[Tensor] = field(default_factory=list)

    def add(self, inputs: Tensor, sampled: Tensor | None) -> None:
        """Add positions [n, size]; `sampled` says which of them are rows that are kept."""
        if sampled is not None:
            self.rows.append(inputs[sampled].cpu())
        for part in torch.split(inputs.float(), MOST_POSITIONS):
            self.count += len(part)
            self.mean += part.sum(0, dtype=torch.float64)
            self.mean_abs += part.abs().sum(0, dtype=torch.float64)
            if self.moments is not None:
                self.moments.add(part, part)

    @property
    def is_finite(self) -> bool:
        """Whether all inputs were finite: a single number that is not shows in the sum of absolute values."""
        return bool(self.mean_abs.isfinite().all())


class _Pass:
    """The hidden states of a text on their way through a model's blocks, and their statistics."""

    def __init__(self, network: BlockNetwork, text: Text, how: Collecting, writer: StatisticsWriter) -> None:
        self._network, self._text, self._how, self._writer = network, text, how, writer
        self._batches = batches_of(text.documents, how.positions)
        self._stream = Stream(self._batches, network.width, None)
        self._sampled = self._sample() if how.rows is not None else [None] * len(self._batches)
        self.sites: dict[str, tuple[str, ...]] = {}

    def _sample(self) -> list[Tensor | None]:
        """Choose the rows that are kept: a uniform sample of the positions that count, the same for every site."""
        counts = [int(batch.counted.sum()) for batch in self._batches]
        total = sum(counts)
        chosen = np.random.default_rng(SEED).permutation(total)[: self._how.rows]
        is_chosen = torch.zeros(total, dtype=torch.bool)
        is_chosen[torch.from_numpy(chosen)] = True
        return list(torch.split(is_chosen, counts))

    def through_blocks(self, progress: Progress) -> None:
        """Move the states through all blocks, and write each block's statistics when it is done."""
        network = self._network
        for number, hidden in enumerate(network.starts([batch.ids for batch in self._batches])):
            self._stream[number] = hidden
        progress.start("calibrate", network.depth, "blocks")
        for number in range(network.depth):
            self._do_block(number)
            progress.advance(1)
            progress.note(f"block {number + 1} of {network.depth}")
        progress.finish()
        if not self.sites:
            raise EvaluationError("no linear map of a block sees each position once", where=network.name)

    def _do_block(self, number: int) -> None:
        block = self._network.block(number)
        sites = self._sites_of(block, number)
        sums = {site.name: self._new_sum(site.size) for site in sites}
        with watched(block, sites) as inputs:
            for place, batch in enumerate(self._batches):
                moved = self._run(block, number, place, batch)
                for site in sites:
                    counted = batch.counted.to(moved.device)
                    sums[site.name].add(inputs[site.name][counted], self._sampled[place])
                if not bool(moved.isfinite().all()):
                    raise self._not_finite(f"block {number} gives")
                self._stream[place] = moved
        for site in sites:
            if not sums[site.name].is_finite:
                raise self._not_finite(f"'{site.name}' in block {number} is given")
            self._write(site, number, sums[site.name])

    def _not_finite(self, what: str) -> CheckpointError:
        return CheckpointError(f"{what} numbers that are not finite on this text", where=self._network.name)

    def _sites_of(self, block: Any, number: int) -> tuple[Site, ...]:
        """Find the sites of a block in the shortest batch, and leave out maps that the checkpoint has no matrix for."""
        first = self._batches[0]
        found = find_sites(block, first.rows * first.length, lambda: self._run(block, number, 0, first, exact=True))
        stored = []
        for site in found:
            maps = tuple(own for own in site.maps if self._tensors_of(number, own))
            if maps:
                stored.append(Site(site.name, site.size, maps))
        return tuple(stored)

    def _tensors_of(self, number: int, own: Linear) -> tuple[str, ...]:
        return self._network.stored_rows(number, own.weight)

    def _new_sum(self, size: int) -> _SiteSum:
        device = self._network.device
        moments = None
        if "gram" in self._how.keep and self._how.rows is None:
            moments = MomentSum(size, mixed=False, residuals=False, device=device)
        zeros = torch.zeros(2, size, dtype=torch.float64, device=device)
        return _SiteSum(size, moments, zeros[0], zeros[1])

    def _run(self, block: Any, number: int, place: int, batch: Batch, *, exact: bool = False) -> Tensor:
        network = self._network
        hidden = self._stream[place].reshape(batch.rows, batch.length, -1).to(network.device)
        with nullcontext() if exact else self._precision():
            return network.run_block(block, hidden, network.call(number, batch.rows, batch.length))

    def _precision(self) -> AbstractContextManager[Any]:
        if self._how.dtype == "float32":
            return nullcontext()
        return torch.autocast(self._network.device.type, getattr(torch, self._how.dtype))

    def _write(self, site: Site, number: int, total: _SiteSum) -> None:
        name = f"{self._network.path(number)}.{site.name}"
        self.sites[name] = tuple(chain.from_iterable(self._tensors_of(number, own) for own in site.maps))
        if total.moments is not None:
            self._write_gram(name, total.moments.moments().gram)
        elif total.rows:
            rows = torch.cat(total.rows).float().numpy()
            self._writer.add(f"rows/{name}", rows.astype(ml_dtypes.bfloat16))
        if "mean_abs" in self._how.keep:
            self._writer.add(f"mean_abs/{name}", _as_float32(total.mean_abs / total.count))
        if "mean" in self._how.keep:
            self._writer.add(f"mean/{name}", _as_float32(total.mean / total.count))

    def _write_gram(self, name: str, gram: Tensor) -> None:
        rank = self._how.rank
        if rank is None:
            self._writer.add(f"gram/{name}", _as_float32(gram))
            return
        values, vectors = torch.linalg.eigh(gram)
        strongest = vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()
        rest = gram.diagonal() - strongest.square().sum(1)
        self._writer.add(f"factor/{name}", _as_float32(strongest.T.flip(0)))
        self._writer.add(f"rest/{name}", _as_float32(rest.clamp(min=0)))

    def loss(self) -> tuple[float | None, int]:
        """Return the mean loss of a predicted token in nats, and how many there are.

        Those of answers count, or all of a text that has none.
        """
        total, tokens = 0.0, 0
        wanted: Positions = "answer" if self._text.has_answers else "all"
        for place, batch in enumerate(batches_of(self._text.documents, wanted)):
            targets = torch.full_like(batch.ids, -1)
            targets[:, :-1] = batch.ids[:, 1:]
            predicts = batch.counted & (targets.reshape(-1) >= 0)
            hidden = self._stream[place][predicts].to(self._network.device)
            parts = self._network.logits(hidden) if len(hidden) else ()
            total += _nats(parts, targets.reshape(-1)[predicts])
            tokens += int(predicts.sum())
        return (total / tokens, tokens) if tokens else (None, 0)


def _nats(parts: Iterable[Tensor], targets: Tensor) -> float:
    """Return the sum of the losses of tokens whose logits come some at a time."""
    total, first = 0.0, 0
    for logits in parts:
        own = targets[first : first + len(logits)].to(logits.device)
        total += float(torch.nn.functional.cross_entropy(logits.double(), own, reduction="sum"))
        first += len(logits)
    return total


def _as_float32(numbers: Tensor) -> np.ndarray:
    array: np.ndarray = numbers.cpu().numpy().astype(np.float32)
    return array


def kinds_in(written: str) -> Sequence[Kind]:
    """Return the kinds in a list with commas; `Collecting.check` finds words that are none."""
    return tuple(word.strip() for word in written.split(",") if word.strip())  # type: ignore[misc]  # checked there
