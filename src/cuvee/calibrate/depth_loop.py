"""Repairs a merge block by block: each expert's own text goes through the merged blocks before, and through the expert.

The inputs of a block's linear maps then decide, in closed form, the weights that answer them as the experts do. See
`cuvee.calibrate.solve` for the formula and its sources.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod

from cuvee.calibrate.network import BlockNetwork  # first, for it says which extra is missing

# isort: split
import torch

from cuvee.calibrate.block import Block, BlockInput, input_of
from cuvee.calibrate.journal import BlockJournal
from cuvee.calibrate.outcome import BlockFit, MapFit
from cuvee.calibrate.pairs import answers_of, paired_batches, turned
from cuvee.calibrate.routers import MOST_POSITIONS
from cuvee.calibrate.settings import Alignment
from cuvee.calibrate.sites import Site, watched
from cuvee.calibrate.solve import POSITIONS_AT_ONCE, MomentSum, RowSum, Seen
from cuvee.calibrate.streams import Batch, Stream, batches_of, held_out, stream_bytes
from cuvee.calibrate.systems import ANCHOR, Systems
from cuvee.calibrate.text import Text
from cuvee.calibrate.two_sided import TwoSidedNetwork
from cuvee.errors import CheckpointError, EvaluationError
from cuvee.progress import Progress

Tensor = torch.Tensor

STREAMS_SHARE = 4
"""Hidden states go to the disk where they would take more than one part in so many of the memory."""

LIBRARIES_BYTES = 32_000_000
"""Memory that torch and the allocator take at the first use of their parts, measured on two families."""

TRIAL_POSITIONS = 8
"""Random positions on which it is tried which maps of a block are plain."""


@dataclass(frozen=True)
class Expert:
    """An expert, its text as token ids, and how much it counts."""

    name: str
    network: BlockNetwork
    text: Text
    weight: float = 1.0


@dataclass
class Candidate:
    """A ridge that is tried: its name, the streams of the experts' texts, and the results."""

    ridge: float
    streams: list[Stream]
    blocks: list[BlockFit] = field(default_factory=list)
    divergences: dict[str, float] = field(default_factory=dict)

    @property
    def divergence(self) -> float | None:
        """The mean divergence from the experts on held-out text; None where nothing was held out."""
        if not self.divergences:
            return None
        return sum(self.divergences.values()) / len(self.divergences)


class DepthLoop:
    """The state of a repair on its way through the blocks.

    The solved tensors of each block go to the `journal`, which also has those of an earlier run.
    """

    def __init__(
        self,
        merged: BlockNetwork,
        experts: Sequence[Expert],
        how: Alignment,
        journal: BlockJournal,
        *,
        base: BlockNetwork | None = None,
        compares: bool = False,
        in_full: bool = False,
        threads: int = 1,
        memory_bytes: int,
    ) -> None:
        self._merged, self._experts, self._how = merged, experts, how
        self._base, self._journal, self._threads, self._compares = base, journal, threads, compares
        self._in_full = in_full
        self._batches = [self._batched(expert.text) for expert in experts]
        self._check_texts()
        held = any(batch.held_out for batches in self._batches for batch in batches)
        self._needs_teachers = how.mix > 0 or compares or held
        ridges = (*how.ridges, ANCHOR) if compares else how.ridges
        self._streams = 1 + len(ridges)
        self._folder = journal.folder if self.stream_bytes > memory_bytes // STREAMS_SHARE else None
        self._teachers = self._new_streams()
        self.candidates = [Candidate(ridge, self._new_streams()) for ridge in ridges]

    def _batched(self, text: Text) -> list[Batch]:
        hold_out = self._how.hold_out(len(text.documents))
        if isinstance(self._merged, TwoSidedNetwork):
            return paired_batches(text.documents, self._merged.start_token, hold_out=hold_out)
        return batches_of(text.documents, self._how.positions, hold_out=hold_out)

    def _check_texts(self) -> None:
        for expert, batches in zip(self._experts, self._batches, strict=True):
            if not any(bool(batch.counted.any()) for batch in batches if not batch.held_out):
                message = f"no position of its text counts: {len(expert.text.documents)} documents"
                raise EvaluationError(message, where=f"{expert.name}: {expert.text.name}", hint="give more text")

    def _new_streams(self) -> list[Stream]:
        width = self._merged.width
        return [Stream(batches, width, self._folder) for batches in self._batches]

    def run(self, progress: Progress) -> None:
        """Go through all blocks, then measure the held-out documents."""
        with _single_threaded(), torch.no_grad(), ThreadPoolExecutor(self._threads) as pool:
            self._start()
            progress.start("align", self._merged.depth, "blocks")
            for number in range(self._merged.depth):
                if number == self._merged.turns_at:
                    self._turn()
                self._do_block(number, pool)
                progress.note(self._in_words(number))
                progress.advance(1)
            progress.finish()
            self._measure(progress)

    def run_first(self) -> float:
        """Go through the first block only; return the seconds that it took."""
        with _single_threaded(), torch.no_grad(), ThreadPoolExecutor(self._threads) as pool:
            self._start()
            started = time.perf_counter()
            self._do_block(0, pool)
            return time.perf_counter() - started

    def solved_in(self, number: int) -> list[str]:
        """Return the names, within block `number`, of the weights and biases that are solved."""
        block = Block(number, self._merged, self._base, self._how, self._trial(number), self._in_full)
        sites = (*block.sites, *block.routers)
        return [name for site in sites for own in site.maps for name in own.tensors if block.has(name)]

    def _trial(self, number: int) -> BlockInput:
        """Show a block random hidden states; show a decoder's block random states of its encoder, too."""
        generator = torch.Generator().manual_seed(0)
        shape = 2, 1, TRIAL_POSITIONS, self._merged.width
        hidden, states = torch.randn(shape, generator=generator).to(self._merged.device)
        decodes = self._merged.turns_at is not None and number >= self._merged.turns_at
        encoded = states if decodes else None
        return BlockInput(hidden, self._merged.call(number, 1, TRIAL_POSITIONS, encoded), encoded)

    def _start(self) -> None:
        for place, expert in enumerate(self._experts):
            ids = [batch.ids for batch in self._batches[place]]
            for number, hidden in enumerate(expert.network.starts(ids)):
                self._teachers[place][number] = hidden
            for number, hidden in enumerate(self._merged.starts(ids)):
                for candidate in self.candidates:
                    candidate.streams[place][number] = hidden

    def _turn(self) -> None:
        """Go on from the encoder to the decoder: the streams keep the encoder's output, and begin anew."""
        encoders, self._batches = self._batches, [answers_of(batches) for batches in self._batches]
        for place, expert in enumerate(self._experts):
            batches = encoders[place], self._batches[place]
            self._teachers[place] = turned(expert.network, self._teachers[place], *batches, self._folder)
            for candidate in self.candidates:
                candidate.streams[place] = turned(self._merged, candidate.streams[place], *batches, self._folder)

    def _do_block(self, number: int, pool: ThreadPoolExecutor) -> None:
        batch, stream = self._batches[0][0], self.candidates[0].streams[0]
        trial = input_of(self._merged, number, stream, 0, batch)
        block = Block(number, self._merged, self._base, self._how, trial, self._in_full)
        done = all(self._journal.has(number, candidate.ridge) for candidate in self.candidates)
        if not done:
            self._solve(block, pool)
        solved = [self._journal.read(number, candidate.ridge) for candidate in self.candidates]
        self._push(block, solved, pool, teachers=done)
        for candidate, distance in zip(self.candidates, self._distances(), strict=True):
            fits = self._journal.fits(number, candidate.ridge)
            candidate.blocks.append(BlockFit(number, fits, distance))

    def _solve(self, block: Block, pool: ThreadPoolExecutor) -> None:
        """Solve the sites of a block, all at once or in turn, for each candidate."""
        groups = [(site,) for site in block.sites] if self._how.one_by_one else [block.sites]
        solved: list[dict[str, Tensor]] = [{} for _ in self.candidates]
        fits: list[list[MapFit]] = [[] for _ in self.candidates]
        for group in groups:
            places = range(len(self._experts))
            routers = block.routers if group is groups[-1] else ()
            systems = [self._systems(block, group, routers, candidate.ridge) for candidate in self.candidates]

            def collect(place: int, group: tuple[Site, ...] = group) -> list[dict[str, Seen]]:
                return self._collect(block, group, place, solved, moves=group is groups[-1])

            for place, collected in zip(places, _in_order(pool, collect, places, self._threads), strict=True):
                weights = block.expert_maps(self._experts[place].network, (*group, *routers))
                for system, moments in zip(systems, collected, strict=True):
                    system.add(weights, moments, self._how.norm, self._experts[place].weight)
            for system, tensors, own in zip(systems, solved, fits, strict=True):
                changed, described = system.solve()
                tensors |= changed
                own += described
        for candidate, tensors, own in zip(self.candidates, solved, fits, strict=True):
            self._journal.write(block.number, candidate.ridge, tensors, own)

    def _collect(
        self, block: Block, sites: tuple[Site, ...], place: int, changed: Sequence[Mapping[str, Tensor]], moves: bool
    ) -> list[dict[str, Seen]]:
        """Sum the moments of one expert's text, for each candidate; with `moves` move the expert's stream on.

        Routers are seen in that last run.
        """
        expert, mixed = self._experts[place], self._how.mix > 0
        routers = block.routers if moves else ()
        watching, every = (*sites, *routers), self._router_step(place)
        teacher = expert.network.block(block.number) if self._needs_teachers else None
        students = [self._student(block, tensors, expert) for tensors in changed]
        sums = [self._sums(sites) | {router.name: RowSum() for router in routers} for _ in self.candidates]
        wanted: Mapping[str, Tensor] = {}
        for number, batch in enumerate(self._batches[place]):
            if teacher is not None:
                with watched(teacher, watching) as inputs:
                    after = self._through(expert.network, teacher, block.number, self._teachers[place], place, number)
                wanted = inputs
                if moves:
                    self._teachers[place][number] = after
            if batch.held_out:
                continue
            for candidate, student, own in zip(self.candidates, students, sums, strict=True):
                with watched(student, watching) as seen:
                    self._through(self._merged, student, block.number, candidate.streams[place], place, number)
                for site in sites:
                    self._add(own[site.name], seen[site.name], (wanted if mixed else seen)[site.name], site, batch)
                for router in routers:
                    states = seen[router.name], (wanted if mixed else seen)[router.name]
                    self._add_router(own[router.name], *states, batch, every)
        return [{name: total.moments() for name, total in own.items()} for own in sums]

    def _router_step(self, place: int) -> int:
        """Return which of an expert's positions routers are solved from: every how manyth."""
        counted = sum(int(batch.counted.sum()) for batch in self._batches[place] if not batch.held_out)
        return max(1, -(-counted // MOST_POSITIONS))

    def _student(self, block: Block, changed: Mapping[str, Tensor], expert: Expert) -> torch.nn.Module:
        """Return the block in which the merged states before it are seen."""
        if self._how.inside == "merged":
            return block.student(changed)
        own: torch.nn.Module = expert.network.block(block.number)
        return own

    def _sums(self, sites: Iterable[Site]) -> dict[str, MomentSum | RowSum]:
        """Begin to sum for each site: positions themselves where they are fewer than its inputs, else moments."""
        sums: dict[str, MomentSum | RowSum] = {}
        mixed, device = self._how.mix > 0, self._merged.device
        for site in sites:
            if self._by_rows(site):
                sums[site.name] = RowSum()
            else:
                sums[site.name] = MomentSum(site.size, mixed=mixed, residuals=self._compares, device=device)
        return sums

    def _positions(self) -> int:
        """Return how many positions count, of all experts together."""
        batches = [batch for own in self._batches for batch in own if not batch.held_out]
        return sum(int(batch.counted.sum()) for batch in batches)

    def _by_rows(self, site: Site) -> bool:
        """Say whether a site is solved from the positions themselves."""
        few = self._positions() < site.size and not site.encoded
        return few and self._how.off_diagonal == 1.0 and min(self._how.ridges) > 0 and not self._compares

    def _systems(self, block: Block, sites: Sequence[Site], routers: Sequence[Site], ridge: float) -> Systems:
        by_rows = {site.name for site in sites if self._by_rows(site)}
        return Systems(block, sites, routers, ridge, self._how.off_diagonal, by_rows, self._compares)

    def _add(self, total: MomentSum | RowSum, seen: Tensor, wanted: Tensor, site: Site, batch: Batch) -> None:
        """Add the inputs of a site on a batch, and those of the expert's own, at the positions that count."""
        counted = slice(None) if site.encoded else batch.counted
        inputs = seen[counted]
        total.add(inputs, torch.lerp(inputs, wanted[counted], self._how.mix))

    def _add_router(self, total: MomentSum | RowSum, seen: Tensor, wanted: Tensor, batch: Batch, every: int) -> None:
        """Add the inputs of a router on a batch, and those of the expert's own, at every how manyth position."""
        inputs = seen[batch.counted][::every]
        total.add(inputs, torch.lerp(inputs, wanted[batch.counted][::every], self._how.mix))

    def _through(
        self, network: BlockNetwork, block: torch.nn.Module, depth: int, stream: Stream, place: int, number: int
    ) -> Tensor:
        """Return the output of a block for a batch of a stream. Raises CheckpointError if that is not finite."""
        block_input = input_of(network, depth, stream, number, self._batches[place][number])
        after = network.run_block(block, block_input.hidden, block_input.call)
        if not bool(after.isfinite().all()):
            message = f"block {depth} gives numbers that are not finite on the text of {self._experts[place].name}"
            raise CheckpointError(message, where=network.name)
        return after

    def _push(
        self, block: Block, changed: Sequence[Mapping[str, Tensor]], pool: ThreadPoolExecutor, *, teachers: bool
    ) -> None:
        """Move the candidates' streams through the solved blocks, with `teachers` the experts' through their blocks."""

        def move(place: int) -> None:
            own = self._experts[place].network
            if teachers and self._needs_teachers:
                self._move(own, own.block(block.number), block.number, self._teachers[place], place)
            for candidate, tensors in zip(self.candidates, changed, strict=True):
                self._move(self._merged, block.student(tensors), block.number, candidate.streams[place], place)

        list(pool.map(move, range(len(self._experts))))

    def _move(self, network: BlockNetwork, block: torch.nn.Module, depth: int, stream: Stream, place: int) -> None:
        for number in range(len(self._batches[place])):
            stream[number] = self._through(network, block, depth, stream, place, number)

    def _distances(self) -> list[float | None]:
        """Return for each candidate how far its streams are from the experts', where that is asked for."""
        if not self._compares:
            return [None] * len(self.candidates)
        distances: list[float | None] = []
        for candidate in self.candidates:
            apart = [own.distance(teacher) for own, teacher in zip(candidate.streams, self._teachers, strict=True)]
            distances.append(sum(apart) / len(apart))
        return distances

    def _measure(self, progress: Progress) -> None:
        """Measure how far each candidate's predictions are from the experts' on the held-out documents."""
        if not any(batch.held_out for batches in self._batches for batch in batches):
            return
        progress.start("compare on held-out text", len(self._experts), "experts")
        for place, expert in enumerate(self._experts):
            teacher = self._held_out(self._teachers[place], place)
            for candidate in self.candidates if len(teacher) else ():
                own = self._held_out(candidate.streams[place], place)
                total = _divergence(expert.network.logits(teacher), self._merged.logits(own))
                candidate.divergences[expert.name] = total / len(teacher)
            progress.advance(1)
        progress.finish()

    def _held_out(self, stream: Stream, place: int) -> Tensor:
        """Return the states of the positions that count in the held-out documents."""
        batches = self._batches[place]
        states = [stream[number][batches[number].counted] for number in held_out(batches)]
        return torch.cat(states) if states else torch.empty(0, self._merged.width)

    def _in_words(self, number: int) -> str:
        return f"block {number + 1} of {self._merged.depth}"

    @property
    def held_bytes(self) -> int:
        """The most bytes held at once: for each thread two blocks and their runs; moments, equations and streams."""
        blocks = max(map(self._block_bytes, range(self._merged.depth)))
        streams = self.stream_bytes if self._folder is None else 0
        return LIBRARIES_BYTES + blocks + streams + self._merged.embedding_bytes

    def _block_bytes(self, number: int) -> int:
        shapes = self._merged.shapes(number)
        numbers = sum(prod(shape) for shape in shapes.values())
        matrices = [shape for shape in shapes.values() if len(shape) == 2]
        grams = sum(width * width for width in {max(shape) for shape in matrices} | {min(s) for s in matrices})
        sums = 1 + (self._how.mix > 0) + self._compares
        own = 4 * numbers + 8 * len(self.candidates) * grams * sums + self._router_bytes(shapes.values())
        own += self._run_bytes(sum(map(sum, matrices)))
        return self._threads * (4 * numbers + own) + 8 * len(self.candidates) * (numbers + grams)

    def _run_bytes(self, width: int) -> int:
        """Return the inputs and outputs of a block's maps, `width` numbers a position, that a thread holds.

        They are those of a batch in the expert's run and in the merge's, and the positions that wait to be summed.
        """
        largest = max(batch.ids.numel() for batches in self._batches for batch in batches)
        waiting = min(POSITIONS_AT_ONCE, self._positions())
        return 4 * width * (2 * largest + len(self.candidates) * waiting)

    def _router_bytes(self, shapes: Collection[tuple[int, ...]]) -> int:
        """Return the data of routers on all texts: inputs and targets, in float64. `shapes` are of a block."""
        experts = {shape[0] for shape in shapes if len(shape) == 3}
        width = sum(shape[1] for shape in shapes if len(shape) == 2 and shape[0] in experts)
        positions = len(self._experts) * min(MOST_POSITIONS, self._positions())
        return 2 * 8 * len(self.candidates) * positions * width

    @property
    def stream_bytes(self) -> int:
        """Return the bytes of all streams."""
        one = sum(stream_bytes(batches, self._merged.width) for batches in self._batches)
        return one * self._streams


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[int], object], places: Iterable[int], ahead: int
) -> Iterator[list[dict[str, Seen]]]:
    """Give the results of `work` in order, with at most `ahead` of them in the making or waiting."""
    waiting = []
    for place in places:
        waiting.append(pool.submit(work, place))
        if len(waiting) >= ahead:
            yield waiting.pop(0).result()  # type: ignore[misc]  # what `work` gives
    for future in waiting:
        yield future.result()  # type: ignore[misc]  # what `work` gives


def _divergence(teacher: Iterable[Tensor], student: Iterable[Tensor]) -> float:
    """Return the sum over positions of KL(teacher ‖ student), in nats, over the tokens that both have."""
    total = 0.0
    for expert, merged in zip(teacher, student, strict=True):
        tokens = min(expert.shape[1], merged.shape[1])
        wanted = torch.log_softmax(expert[:, :tokens].double(), -1)
        given = torch.log_softmax(merged[:, :tokens].double(), -1)
        total += float((wanted.exp() * (wanted - given)).sum())
    return total


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Run each operation on one thread, so that sums do not depend on how many threads there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
