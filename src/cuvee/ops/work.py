"""The work of a method on a matrix, in numbers from which time and memory are forecast."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Operations of matrix products and solutions, sizes of eigendecompositions, and numbers of float64 held at once.

    Held memory counts beyond the task vectors themselves.
    """

    operations: float
    decompositions: tuple[int, ...]
    held: int

    def __add__(self, other: "Work") -> "Work":
        """Return the work of both in turn: the memory of the first is free by then."""
        return Work(
            self.operations + other.operations,
            self.decompositions + other.decompositions,
            max(self.held, other.held),
        )


def spectrum_work(out: int, size: int, kept: int) -> Work:
    """Return the work of one spectrum, or of a polar factor (with all kept)."""
    small, large = sorted((out, size))
    return Work(small * small * large + 2.0 * small * large * kept, (small,), 2 * out * size + 7 * small * small)


def entries_work(models: int, out: int, size: int) -> Work:
    """Return the work of a rule that multiplies and sums the entries of matrices, and decomposes none."""
    return Work(2.0 * models * out * size, (), 2 * out * size)
