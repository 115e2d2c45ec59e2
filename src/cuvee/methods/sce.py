"""SCE: select entries that vary, calculate weights from them, erase minority signs (FuseChat, Wan et al. 2024).

mergekit differs from the official code: the selection also cuts the task vectors, instead of only serving the weights.
`semantics` chooses. mergekit besides gives all models the same weight when their mean squares sum to less than 1e-6,
which those of most fine-tunes do; here, as in the official code, only when they sum to zero.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from cuvee.kernels import BLOCK, Block, Kept
from cuvee.method import UNIT, element_method
from cuvee.ops.arrays import Array, array_namespace, sum_models, wide
from cuvee.ops.order import kept_by, largest_of_nonzero, ranks
from cuvee.ops.sparsify import Masks
from cuvee.ops.survey import Argument, Constant, Fold, Run, Situation, Supplied, Survey, of_one_tensor
from cuvee.ops.task_vectors import elected_sum, sparse


def variance(stack: Array) -> Array:
    """Return each entry's variance over the models, [1, *shape]."""
    models, numbers = stack.shape[0], wide(stack)
    apart = numbers - (sum_models(numbers) / models)[None, ...]
    return array_namespace(stack).astype((sum_models(apart * apart) / models)[None, ...], stack.dtype)


def selected_count(varying: int, share: float) -> int:
    """Return how many of the varying entries are selected. In float32, as mergekit: 0.57 of 100 are 57, not 56."""
    return int(np.float32(varying) * np.float32(share))


@dataclass(frozen=True)
class _Selected:
    """Holds of entries whose variance is above a threshold, for all models.

    What one pass finds is kept for the next.
    """

    above: Supplied
    masks: Masks

    def begin(self) -> "_SelectedInOrder":
        return _SelectedInOrder(self.above.begin(), self.masks)


@dataclass(frozen=True)
class _SelectedInOrder:
    above: Argument
    masks: Masks

    def at(self, block: Block) -> Array:
        return self.masks.get(block, lambda: self.above.at(block))


def variance_of(block: Block) -> np.ndarray:
    """Return the variances of a block's entries, [1, n]."""
    out = np.empty((1, block.size), block.dtype)
    block.kernels.variances(block, out[0])
    return out


def _select(s: Situation) -> Run:
    if s.settings["select_topk"] >= 1:
        return Constant(Kept().mask)

    def count_of(varying: int) -> int:
        return selected_count(varying, s.settings["select_topk"])

    found = yield from largest_of_nonzero(s, count_of, variance_of)
    # a choice in order sees every block of a pass: all masks are kept, or none
    return _Selected(found, Masks(s.room if s.elements // 4 + BLOCK < s.room else 0))


def _select_whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    if s.settings["select_topk"] >= 1:
        return xp.ones(stack.shape, dtype=xp.bool)
    spread = xp.reshape(variance(stack), (1, -1))
    count = selected_count(int(xp.sum(xp.astype(spread > 0, xp.int64))), s.settings["select_topk"])
    return xp.stack([xp.reshape(ranks(spread) < count, stack.shape[1:])] * s.models)


selected = Survey(
    run=_select,
    whole=_select_whole,
    passes=lambda semantics, settings: 0 if settings["select_topk"] >= 1 else 4,
    reads=("select_topk",),
)
"""The share `select_topk` of the entries that vary between the models: those that vary most."""


def _energy(s: Situation) -> Run:
    select: Supplied = s.found["select"]

    def add(state: tuple[np.ndarray, Argument], block: Block) -> tuple[np.ndarray, Argument]:
        sums, choice = state
        block.kernels.squares(block, kept_by(choice, block), sums, rounds=True)
        return state

    squares, _ = yield Fold(lambda: (np.zeros(s.models), select.begin()), add, of_one_tensor)
    return Constant(_shares(squares, s.elements, s.dtype))


def _energy_whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    chosen = xp.where(s.found["select"], stack, xp.zeros_like(stack))
    narrow = stack.dtype.itemsize == 2
    squares = xp.astype(chosen * chosen, xp.float64) if narrow else xp.astype(chosen, xp.float64) ** 2
    return _shares(np.asarray([float(xp.sum(row)) for row in squares]), s.elements, stack.dtype)


def _shares(squares: np.ndarray, elements: int, dtype: Any) -> np.ndarray:
    """Return the shares; where 16 bits are computed in, of means of squares rounded to them, as all on the way."""
    if dtype.itemsize == 2:
        squares = (squares / max(elements, 1)).astype(dtype)
    total = sum_models(squares)
    return squares / total if total > 0 else np.full(squares.shape, 1 / squares.size)


energy_share = Survey(run=_energy, whole=_energy_whole, passes=lambda semantics, settings: 1)
"""Each model's share of the squared length of the selected entries."""


@element_method(
    "sce",
    paper="arXiv:2408.07990",
    formula="θ₀ + λ Σ mᵢ ηᵢ τᵢ / Σ mᵢ ηᵢ,  ηᵢ = ‖τ̂ᵢ‖² / Σ ‖τ̂ⱼ‖²,  mᵢ = [sign τᵢ = sign Σ τⱼ]",
    staged=True,
)
def sce(
    deltas: Array,
    *,
    select_topk: Annotated[float, UNIT] = 1.0,
    semantics: str,
    select: Annotated[Array, selected],
    share: Annotated[Array, energy_share],
) -> Array:
    """Average the task vectors by their size in the entries that vary most, without minority signs.

    `select_topk` is the share of entries selected, among those that differ between models; the paper uses 0.1.
    """
    chosen = deltas if semantics == "paper" else sparse(deltas, select, np.ones(len(share)))
    return elected_sum(chosen, share, normalize=True, weights_vote=False)
