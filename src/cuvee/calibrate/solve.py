"""The solver for RegMean, RegMean++ and anchored regression: a matrix that does for all inputs as each expert does.

With an expert's weight Wᵢ [out, in], the inputs Xᵢ [nᵢ, in] that the merged model sees and the inputs Yᵢ [nᵢ, in] at
the same positions that the expert's answer is wanted for:

    Cᵢ = XᵢᵀXᵢ/nᵢ    Kᵢ = YᵢᵀXᵢ/nᵢ    sᵢ = wᵢ/‖Cᵢ‖
    W = (Σ sᵢWᵢKᵢ + ridge·A)(Σ sᵢC̃ᵢ + ridge·I)⁻¹,    C̃ᵢ = a·Cᵢ + (1-a)·diag(Cᵢ)

RegMean (arXiv:2212.09849) has Y = X of each expert's own run, ridge 0 and a < 1; RegMean++ (arXiv:2508.03121) sees X
through the merged layers before; FeatCal (arXiv:2605.13030) mixes the expert's own inputs into Y and holds W at an
anchor A.

The unknown is the difference from A: W = A + (Σ sᵢWᵢK̃ᵢ - A·Σ sᵢC̃ᵢ)(...)⁻¹. It is the same, and where inputs leave
directions open W keeps A's. Everything is float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Norm = Literal["frobenius", "trace", "none"]
Tensor = torch.Tensor

POSITIONS_AT_ONCE = 2048
"""Positions whose products are one sum in float32."""

LEAST_PIVOT = 1e-10
"""Below this part of the largest squared pivot a system is solved by its eigenvalues."""

LEAST_EIGENVALUE = 1e-6
"""Directions below this part of the largest eigenvalue are left as in the anchor."""


@dataclass(frozen=True)
class Moments:
    """Averages over the positions of one expert's text: `gram` is C [in, in], `cross` is K [in, in], means are [in].

    `target` is YᵀY/n, for the residual; None where nobody asks for it.
    """

    gram: Tensor
    cross: Tensor
    mean_input: Tensor
    mean_target: Tensor
    target: Tensor | None = None


class MomentSum:
    """Sums moments over blocks of positions: products in float32, sums in float64."""

    def __init__(self, size: int, *, mixed: bool, residuals: bool, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.count = 0
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._gram = zeros(size, size)
        self._cross = zeros(size, size) if mixed else self._gram
        self._target = zeros(size, size) if mixed and residuals else None
        self._input, self._wanted = zeros(size), zeros(size)
        self._mixed, self._residuals = mixed, residuals

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Add positions, [n, in] each. Few of them wait for others: a sum costs as much as many positions."""
        self.count += len(inputs)
        self._waiting.append((inputs, targets))
        if sum(len(own) for own, _ in self._waiting) >= POSITIONS_AT_ONCE:
            self._sum()

    def _sum(self) -> None:
        """Sum the waiting blocks."""
        if not self._waiting:
            return
        inputs, targets = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        self._gram += (inputs.T @ inputs).double()
        self._input += inputs.sum(0, dtype=torch.float64)
        self._wanted += targets.sum(0, dtype=torch.float64)
        if self._mixed:
            self._cross += (targets.T @ inputs).double()
        if self._target is not None:
            self._target += (targets.T @ targets).double()

    def moments(self) -> Moments:
        """Return the averages."""
        self._sum()
        gram = self._gram / self.count
        cross = self._cross / self.count if self._mixed else gram
        target = gram if self._residuals else None
        if self._target is not None:
            target = self._target / self.count
        return Moments(gram, cross, self._input / self.count, self._wanted / self.count, target)


@dataclass(frozen=True)
class Fit:
    """The solution: the matrix, and how. `condition` is the square of the ratio of the largest to the least pivot.

    It is infinite where the system was solved by its eigenvalues.
    """

    weight: Tensor
    condition: float


@dataclass(frozen=True)
class Rows:
    """The positions of one expert's text themselves, [n, in] each: fewer numbers than moments where n is below in."""

    inputs: Tensor
    targets: Tensor

    @property
    def mean_input(self) -> Tensor:
        return self.inputs.mean(0)

    @property
    def mean_target(self) -> Tensor:
        return self.targets.mean(0)


class RowSum:
    """Gathers positions."""

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Add positions, [n, in] each."""
        self._inputs.append(inputs.double())
        self._targets.append(targets.double())

    def moments(self) -> Rows:
        """Return all of them."""
        return Rows(torch.cat(self._inputs), torch.cat(self._targets))


Seen = Moments | Rows
"""What is known of one expert's text at one site."""


def share_of(own: Seen, norm: Norm, weight: float = 1.0) -> float:
    """Return sᵢ: how much an expert's text counts. It is 0 where its inputs are all zero."""
    if norm == "none":
        return weight
    # XXᵀ has the norm and the trace of XᵀX
    gram = own.gram if isinstance(own, Moments) else own.inputs @ own.inputs.T / len(own.inputs)
    size = float(gram.trace() if norm == "trace" else torch.linalg.matrix_norm(gram))
    return weight / size if size > 0 else 0.0


class Equations(ABC):
    """The equations of the maps of an input, summed expert by expert, so that a single expert's moments are held.

    `anchor` is A [out, in]: matrices of an input may be stacked.
    """

    def __init__(self, anchor: Tensor, *, ridge: float) -> None:
        self.anchor = anchor.double()
        self.ridge = ridge
        self._shares = 0.0
        self._mean_output = self.anchor.new_zeros(len(anchor))
        self._mean_input = self.anchor.new_zeros(anchor.shape[1])

    def add(self, matrix: Tensor, own: Seen, share: float, bias: Tensor | None = None) -> None:
        """Add an expert's matrix [out, in], its bias [out], the moments of its text and sᵢ."""
        wide = matrix.double()
        self._add(wide, own, share)
        output = wide @ own.mean_target
        if bias is not None:
            output = output + bias.double()
        self._mean_output += share * output
        self._mean_input += share * own.mean_input
        self._shares += share

    @abstractmethod
    def _add(self, matrix: Tensor, own: Seen, share: float) -> None:
        """Add an expert to the equations of the weight."""

    @abstractmethod
    def solve(self) -> Fit:
        """Return W and how it was solved."""

    def bias(self, weight: Tensor, anchor: Tensor) -> Tensor:
        """Return the bias [out] that goes with W: the experts' mean outputs less those of W; `anchor` is A's bias."""
        divisor = self._shares + self.ridge
        if divisor == 0:
            return anchor.double()
        return (self._mean_output - weight @ self._mean_input + self.ridge * anchor.double()) / divisor


class GramEquations(Equations):
    """The equations as they stand above, in×in."""

    def __init__(self, anchor: Tensor, *, ridge: float, off_diagonal: float = 1.0) -> None:
        super().__init__(anchor, ridge=ridge)
        self._off_diagonal = off_diagonal
        self._system = ridge * torch.eye(anchor.shape[1], dtype=torch.float64, device=anchor.device)
        self._change = torch.zeros_like(self.anchor)

    def _add(self, matrix: Tensor, own: Seen, share: float) -> None:
        if not isinstance(own, Moments):
            raise TypeError("these equations are summed from moments")
        gram = share * _shrunk(own.gram, self._off_diagonal)
        cross = gram if own.cross is own.gram else share * own.cross
        self._system += gram
        self._change += matrix @ cross - self.anchor @ gram

    def solve(self) -> Fit:
        solved, condition = _divided(self._change, self._system)
        return Fit(self.anchor + solved, condition)


class RowEquations(Equations):
    """The same from the positions themselves, N×N for N = Σ nᵢ of them, for ridge > 0 and a = 1.

    With X the stacked √(sᵢ/nᵢ)·Xᵢ and D the stacked √(sᵢ/nᵢ)·(YᵢWᵢᵀ - XᵢAᵀ), W = A + Dᵀ(XXᵀ + ridge·I)⁻¹X. So the rank
    of W - A is at most N.
    """

    def __init__(self, anchor: Tensor, *, ridge: float) -> None:
        super().__init__(anchor, ridge=ridge)
        self._rows: list[Tensor] = []
        self._differences: list[Tensor] = []

    def _add(self, matrix: Tensor, own: Seen, share: float) -> None:
        if not isinstance(own, Rows):
            raise TypeError("these equations are summed from positions")
        scale = (share / len(own.inputs)) ** 0.5
        inputs, targets = own.inputs.double(), own.targets.double()
        self._rows.append(scale * inputs)
        self._differences.append(scale * (targets @ matrix.T - inputs @ self.anchor.T))

    def solve(self) -> Fit:
        rows, differences = torch.cat(self._rows), torch.cat(self._differences)
        system = rows @ rows.T + self.ridge * torch.eye(len(rows), dtype=torch.float64, device=rows.device)
        solved, condition = _divided(differences.T, system)
        return Fit(self.anchor + solved @ rows, condition)


def fit(
    matrices: Sequence[Tensor],
    moments: Sequence[Moments],
    anchor: Tensor,
    *,
    ridge: float,
    off_diagonal: float = 1.0,
    shares: Sequence[float],
) -> Fit:
    """Return W [out, in] for the experts' `matrices` [out, in]."""
    equations = GramEquations(anchor, ridge=ridge, off_diagonal=off_diagonal)
    for matrix, own, share in zip(matrices, moments, shares, strict=True):
        equations.add(matrix, own, share)
    return equations.solve()


class Residuals:
    """How far a map's outputs are from the experts': the mean over experts of ‖X·Wᵀ - Y·Wᵢᵀ‖²/‖Y·Wᵢᵀ‖².

    It is summed without a weight, which is told at the end.
    """

    def __init__(self, out: int, width: int, device: torch.device) -> None:
        self._gram = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._cross = torch.zeros(out, width, dtype=torch.float64, device=device)
        self._experts = 0

    def add(self, matrix: Tensor, own: Seen) -> None:
        """Add an expert's matrix and moments, which must have been summed with residuals in mind."""
        if not isinstance(own, Moments) or own.target is None:
            raise ValueError("these moments were summed without what a residual needs")
        wide = matrix.double()
        energy = float(((wide @ own.target) * wide).sum())
        if energy <= 0:
            return
        self._gram += own.gram / energy
        self._cross += (wide @ own.cross) / energy
        self._experts += 1

    def of(self, weight: Tensor) -> float:
        """Return the mean relative residual of a weight [out, in]; 0 where no expert gives anything."""
        if not self._experts:
            return 0.0
        wide = weight.double()
        merged = float(((wide @ self._gram) * wide).sum())
        mixed = float((wide * self._cross).sum())
        return max((merged - 2 * mixed) / self._experts + 1.0, 0.0)


def _shrunk(gram: Tensor, off_diagonal: float) -> Tensor:
    if off_diagonal == 1.0:
        return gram
    return off_diagonal * gram + (1 - off_diagonal) * torch.diag(gram.diagonal())


def _divided(left: Tensor, system: Tensor) -> tuple[Tensor, float]:
    """Return left · system⁻¹ for a symmetric matrix without negative eigenvalues, and its condition.

    Where it is not well posed, directions of no weight are left out.
    """
    factor, failed = torch.linalg.cholesky_ex(system)
    pivots = factor.diagonal() ** 2
    if not int(failed) and bool((pivots > LEAST_PIVOT * pivots.max()).all()):
        return torch.cholesky_solve(left.T, factor).T, float(pivots.max() / pivots.min())
    values, vectors = torch.linalg.eigh(system)
    strong = values > LEAST_EIGENVALUE * values.max().clamp(min=0)
    values, vectors = values[strong], vectors[:, strong]
    return ((left @ vectors) / values) @ vectors.T, float("inf")
