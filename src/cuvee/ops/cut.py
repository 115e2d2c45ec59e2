"""How a tensor is cut into matrices [out, in], and put together again."""

from collections.abc import Iterator
from dataclasses import dataclass

from cuvee.ops.arrays import Array, array_namespace

Place = tuple[int | slice, ...]
"""An index into a tensor's axes, which gives a view of it."""


@dataclass(frozen=True)
class Cut:
    """A tensor as one matrix, or as several: a stack of them, each with projections of these `sizes` fused in it.

    `sizes` are along the outputs. `input_first` says that matrices are stored as [in, out].
    """

    stacked: int | None = None
    sizes: tuple[int, ...] = ()
    input_first: bool = False

    def places(self) -> Iterator[Place]:
        """Give the place of each matrix in the tensor."""
        for first in range(self.stacked) if self.stacked is not None else (None,):
            before = () if first is None else (first,)
            start = 0
            for size in self.sizes:
                part = slice(start, start + size)
                yield (*before, slice(None), part) if self.input_first else (*before, part, slice(None))
                start += size
            if not self.sizes:
                yield (*before, slice(None), slice(None))

    def shapes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return (out, in) of each matrix in a tensor of that shape, in the order of the places."""
        out, size = (shape[-1], shape[-2]) if self.input_first else (shape[-2], shape[-1])
        return [(each, size) for each in self.sizes or (out,)] * (1 if self.stacked is None else self.stacked)

    def taken(self, array: Array, place: Place) -> Array:
        """Return one of the matrices of an array [models, *shape], as [models, out, in]."""
        found = array[(slice(None), *place)]
        return array_namespace(array).linalg.matrix_transpose(found) if self.input_first else found

    def put(self, array: Array, place: Place, matrix: Array) -> None:
        """Write a matrix [out, in] to its place in an array of the tensor's shape."""
        array[place] = array_namespace(array).linalg.matrix_transpose(matrix) if self.input_first else matrix


def cut_by_shape(shape: tuple[int, ...]) -> Cut | None:
    """Return how a tensor of which nothing is known but its shape is cut: in two axes a matrix, in three a stack."""
    return {2: Cut(), 3: Cut(stacked=shape[0])}.get(len(shape))
