"""One pass over the weights of a base and its experts: lengths, angles, and which directions they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.comparison.figures import Figures, figures
from cuvee.comparison.matching import LeftOut, match
from cuvee.comparison.models import piece_size
from cuvee.comparison.stream import Piece, Reader, row_length
from cuvee.comparison.sums import Sums, no_sums
from cuvee.errors import CheckpointError
from cuvee.progress import Progress
from cuvee.structure import layer_of
from cuvee.suggest.changes import Changes
from cuvee.suggest.directions import effective_rank, is_sketched, leading_directions, overlap, sketch_of

MOST_SHOWN = 3


@dataclass(frozen=True)
class Survey:
    """The figures of the pass. `matrices` counts those searched for directions; `left_out` are other tensors."""

    base: str
    changes: Changes
    figures: Figures
    matrices: int
    left_out: tuple[LeftOut, ...]


def survey(
    sources: Sequence[TensorSource],
    labels: Sequence[str],
    *,
    threads: int,
    progress: Progress,
    piece: int | None = None,
) -> Survey:
    """Look at opened models, the base first. `piece` (elements) overrides how much is read at a time.

    Memory holds pieces, and sketches of one matrix. Raises CheckpointError for models whose layers are not alike, and
    for an expert that is the base.
    """
    names, left_out = match(sources, labels)
    _refuse_mismatch(names, left_out)
    reader = Reader(sources, workers=threads, piece=piece or piece_size(len(sources)))
    specs = sources[0].tensors

    def look(piece: Piece, stack: np.ndarray) -> np.ndarray | None:
        inputs = row_length(specs[piece.tensor])
        whole_rows = piece.first % inputs == 0 and piece.last % inputs == 0
        if not (is_sketched(specs[piece.tensor].shape) and whole_rows):
            return None
        return sketch_of(stack, inputs)

    total = no_sums(len(sources) - 1, tensors=len(names))
    directions = Directions(len(sources) - 1)
    progress.start("compare", reader.all_bytes(names), "bytes")
    for read, sums, sketch in reader.seen(names, look):
        total += sums
        directions.add(read, specs[read.tensor], sums, sketch)
        progress.advance(reader.nbytes(read))
    progress.finish()
    found = figures(total)
    for label, model in zip(labels[1:], found.models, strict=True):
        if model.norm == 0:
            raise CheckpointError("this expert changes nothing in the base", where=label, hint="is it the base itself?")
    return Survey(labels[0], _changes(labels[1:], found, directions), found, directions.matrices, left_out)


def _refuse_mismatch(names: Sequence[str], left_out: Sequence[LeftOut]) -> None:
    """Raise CheckpointError where weights of a layer are not in all models alike; other unlike tensors are left out."""
    weights = [tensor for tensor in left_out if "no weights" not in tensor.reason]
    within = [tensor for tensor in weights if layer_of(tensor.tensor)]
    if names and not within:
        return
    unlike = within or left_out
    shown = "; ".join(f"'{tensor.tensor}' is {tensor.reason}" for tensor in unlike[:MOST_SHOWN])
    more = f"; and {len(unlike) - MOST_SHOWN} more" if len(unlike) > MOST_SHOWN else ""
    raise CheckpointError(f"the models' layers are not alike: {shown}{more}", hint="name experts of this very base")


@dataclass
class Directions:
    """Effective ranks of the models, and overlaps of their pairs, over the matrices. State: sums, and one sketch."""

    models: int
    matrices: int = 0
    _open: str = ""
    _sketch: np.ndarray | None = None
    _squares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    _rows: int = 0

    def __post_init__(self) -> None:
        self._pairs = list(combinations(range(self.models), 2))
        self._ranks = np.zeros(self.models)
        self._rank_weights = np.zeros(self.models)
        self._overlaps = np.zeros(len(self._pairs))
        self._overlap_weights = np.zeros(len(self._pairs))

    @property
    def ranks(self) -> list[float]:
        """The effective rank of each model, 1 where no matrix was seen."""
        pairs = zip(self._ranks, self._rank_weights, strict=True)
        return [rank / weight if weight else 1.0 for rank, weight in pairs]

    @property
    def overlaps(self) -> list[float]:
        """The overlap of each pair, 0 where both changed no matrix."""
        pairs = zip(self._overlaps, self._overlap_weights, strict=True)
        return [float(sum_ / weight) if weight else 0.0 for sum_, weight in pairs]

    def add(self, piece: Piece, spec: TensorSpec, sums: Sums, sketch: np.ndarray | None) -> None:
        """Add a piece. Pieces of a tensor come in their order."""
        if sketch is None:
            return
        if piece.first == 0:
            self._sketch, self._squares = np.zeros_like(sketch), np.zeros(self.models)
        assert self._sketch is not None, "a tensor begins with its first piece"
        self._sketch += sketch
        self._squares += np.diag(sums.gram)
        if piece.last == spec.elements:
            self._close(self._sketch)
            self._sketch = None

    def _close(self, sketch: np.ndarray) -> None:
        """Take in a matrix. Longer changes count more: by squared norms, pairs by the product of norms."""
        self.matrices += 1
        moved = [place for place in range(self.models) if self._squares[place] > 0]
        bases = {place: leading_directions(sketch[place]) for place in moved}
        for place in moved:
            self._ranks[place] += self._squares[place] * effective_rank(sketch[place], float(self._squares[place]))
            self._rank_weights[place] += self._squares[place]
        for number, (i, j) in enumerate(self._pairs):
            if i in bases and j in bases:
                weight = float(np.sqrt(self._squares[i] * self._squares[j]))
                self._overlaps[number] += weight * overlap(bases[i], bases[j])
                self._overlap_weights[number] += weight


def _changes(labels: Sequence[str], found: Figures, directions: Directions) -> Changes:
    return Changes(
        tuple(labels),
        tuple(model.norm / found.base_norm if found.base_norm else model.norm for model in found.models),
        tuple(float(rank) for rank in directions.ranks),
        tuple(pair.cosine or 0.0 for pair in found.pairs),
        tuple(pair.sign_conflict or 0.0 for pair in found.pairs),
        tuple(directions.overlaps),
    )
