"""Changes of adapters that are only known with their base: DoRA's, those of other kinds than LoRA, and of experts."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from cuvee.adapters.adapted import Adapted, read_rows
from cuvee.adapters.adapter import Adapter
from cuvee.adapters.changes import as_matrix
from cuvee.adapters.edits import Fit, Placed
from cuvee.adapters.low_rank import Product
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, CuveeError, several
from cuvee.structure import Structure, infer
from cuvee.structure.config import hint


@dataclass(frozen=True)
class Difference:
    """What an adapter changes in one matrix [out, in], of any rank: read from the base with and without it, by rows.

    `turned` says that both store it as [in, out]; all of it is then read at once, and kept.
    """

    adapted: Adapted
    name: str
    turned: bool

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = as_matrix(self.adapted.tensors[self.name].shape)
        return (columns, rows) if self.turned else (rows, columns)

    @property
    def rank(self) -> int:
        return min(self.shape)

    def rows(self, low: int, high: int) -> np.ndarray:
        """Return rows [low, high) in float32."""
        return self._whole[low:high] if self.turned else self._stored(low, high)

    @cached_property
    def _whole(self) -> np.ndarray:
        return np.ascontiguousarray(self._stored(0, self.shape[1]).T)

    def _stored(self, low: int, high: int) -> np.ndarray:
        base, origin = self.adapted.base, self.adapted.placed.origin(self.name)
        _, width = as_matrix(self.adapted.tensors[self.name].shape)
        new = read_rows(self.adapted, self.name, low, high, width)
        old = read_rows(base, origin, low, high, width)
        return np.asarray(new - old.astype(new.dtype), np.float32)


def _expert_names(parameter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{parameter}.{expert}" for expert in range(count))


Delta = Product | Difference
"""One adapter's change of one matrix."""


class OverBase:
    """Adapters placed over their base. `stacks` are modules of experts by the parameter in memory that holds them.

    `origins` are the base's names for tensors by the adapters' names for them. State: the factors of stacks that are
    being read, until each expert's have been given out.
    """

    def __init__(self, base: TensorSource, adapters: Sequence[Adapter]) -> None:
        self.base = base
        self.adapted = tuple(Adapted(base, adapter) for adapter in adapters)
        other = next(chain.from_iterable(one.placed.resized for one in self.adapted), None)
        if other is not None:
            message = f"an adapter has '{other}' for other tokens than the base has"
            raise CheckpointError(message, hint="apply it to its base (cuvee adapters apply), then merge the models")
        edits = chain.from_iterable(one.placed.edits.values() for one in self.adapted)
        of_experts = (edit.full for edit in edits if edit.expert is not None)
        stack = next((stored for stored in of_experts if stored is not None), None)
        if stack is not None:
            message = f"an adapter holds '{stack}' as a whole, and the base stores those experts one by one"
            raise CheckpointError(message, hint="apply it to its base (cuvee adapters apply), then merge the models")
        self.structure: Structure = infer(base)
        self.origins: dict[str, str] = {}
        self.fits: dict[str, Fit] = {}
        for one in self.adapted:
            self.origins |= {name: one.placed.origin(called) for name, called in one.placed.called.items()}
            self.fits |= one.placed.stacks
        self._biases = [_changed_biases(one.placed) for one in self.adapted]
        for biases in self._biases:
            self.origins |= biases
        self.stacks: Mapping[str, tuple[str, ...]] = {
            parameter: _expert_names(parameter, fit.factors.experts) for parameter, fit in self.fits.items()
        }
        problems = [problem for problem in map(self._unknown_axes, self.fits.values()) if problem is not None]
        if problems:
            raise several(problems)
        self._experts: dict[str, tuple[str, int]] = {}
        for parameter, modules in self.stacks.items():
            self._experts |= {module: (parameter, expert) for expert, module in enumerate(modules)}
        self._read: dict[str, list[list[Product]]] = {}
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def _unknown_axes(self, fit: Fit) -> CuveeError | None:
        if self.structure.of(fit.stored).axes_known:
            return None
        message = f"nothing tells whether '{fit.stored}' is stored by outputs or by inputs"
        hint = "apply the adapters to their base (cuvee adapters apply), then merge the models"
        return CheckpointError(message, hint=hint)

    def shape(self, module: str) -> tuple[int, int]:
        """Return the shape of a module's change as [out, in]."""
        if module in self._experts:
            fit = self.fits[self._experts[module][0]]
            shape = fit.spread.shape if fit.spread is not None else self.base.tensors[fit.stored].shape
            return (shape[-1], shape[-2]) if self._is_input_first(fit) else (shape[-2], shape[-1])
        rows, columns = as_matrix(self.base.tensors[self.origins[f"{module}.weight"]].shape)
        return (columns, rows) if self._is_turned(module) else (rows, columns)

    def rank(self, which: int, module: str) -> int:
        """Return an adapter's rank in one expert; 0 where it does not change it."""
        fit = self.adapted[which].placed.stacks.get(self._experts[module][0])
        return fit.factors.rank if fit is not None else 0

    def embeds(self, module: str) -> bool:
        """Say whether a module is an embedding."""
        name = self.origins.get(f"{module}.weight")
        return name is not None and self.structure.of(name).role == "embedding"

    def difference(self, which: int, module: str) -> Difference:
        """Return what one adapter changes in a module."""
        adapted = self.adapted[which]
        return Difference(adapted, adapted.placed.called[f"{module}.weight"], self._is_turned(module))

    def products(self, module: str) -> list[Product]:
        """Read each adapter's change of one expert. The numbers of its stack are read once for all of its experts."""
        parameter, expert = self._experts[module]
        with self._lock:
            if parameter not in self._read:
                self._read[parameter] = [self._stack(one, parameter) for one in self.adapted]
                self._left[parameter] = len(self.stacks[parameter])
            found = [products[expert] for products in self._read[parameter]]
            self._left[parameter] -= 1
            if not self._left[parameter]:
                del self._read[parameter]
        return [Product(p.left.astype(np.float64), p.right.astype(np.float64)) for p in found]

    def _stack(self, adapted: Adapted, parameter: str) -> list[Product]:
        """Read one adapter's factors of all experts of a stack, as [out, in], in float32."""
        fit = adapted.placed.stacks.get(parameter)
        if fit is None:
            return [nothing(self.shape(module)) for module in self.stacks[parameter]]
        found = []
        for left, right in adapted.adapter.expert_pairs(fit.factors):
            one = balanced(left, right, fit.factors.scale)
            found.append(one if fit.turned == self._is_input_first(fit) else Product(one.right.T, one.left.T))
        return found

    def laid_as_stored(self, parameter: str) -> bool:
        """Say whether PEFT lays the factors of a parameter for the axes as they are stored, though they are turned."""
        fit = self.fits[parameter]
        return self._is_input_first(fit) and bool(hint(self.base.config, "peft_as_is"))

    def biases(self, which: int) -> dict[str, tuple[int, ...]]:
        """Return the biases that an adapter of another kind than LoRA changes, by its names for them, with shapes."""
        return {name: self.base.tensors[bias].shape for name, bias in self._biases[which].items()}

    def changes_bias(self, which: int, name: str) -> bool:
        """Say whether an adapter of another kind than LoRA changes a bias."""
        return name in self._biases[which]

    def read(self, which: int, name: str) -> np.ndarray:
        """Read a bias with an adapter's change."""
        bias = self._biases[which][name]
        numbers: np.ndarray = read_rows(self.adapted[which], bias, 0, 1, self.base.tensors[bias].elements)[0]
        return numbers.astype(np.float32)

    def _is_turned(self, module: str) -> bool:
        return self.structure.of(self.origins[f"{module}.weight"]).input_first

    def _is_input_first(self, fit: Fit) -> bool:
        return self.structure.of(fit.stored).input_first


def _changed_biases(placed: Placed) -> dict[str, str]:
    """Return the base's names for biases that another kind than LoRA changes, by the adapter's names for them."""
    found = {}
    for name, edit in placed.edits.items():
        if edit.change is not None and edit.weight is not None:
            found[f"{edit.change.module}.bias"] = name
    return found


def balanced(left: np.ndarray, right: np.ndarray, scale: float) -> Product:
    """Share the scale that is in the left side between both."""
    share = np.sqrt(abs(scale)) or 1.0
    return Product(left / share, right * share)


def nothing(shape: tuple[int, int]) -> Product:
    """Return the change of a matrix that does not change."""
    return Product(np.zeros((shape[0], 0)), np.zeros((0, shape[1])))
