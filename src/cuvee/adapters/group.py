"""Several adapters of one base, side by side: which modules they change, and the tensors that they hold whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from cuvee.adapters.adapted import read_rows
from cuvee.adapters.adapter import Adapter
from cuvee.adapters.changes import Factors
from cuvee.adapters.low_rank import Product
from cuvee.adapters.over_base import Delta, OverBase, balanced, nothing
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, CuveeError, several

BIAS = ".added_bias"
TOKENS = ".token_adapter.trainable_tokens_delta"
COPY = ".base_layer.weight"


@dataclass(frozen=True)
class Whole:
    """A tensor that some adapter holds as a whole: its name, its name in a base, and the rows of that if not all.

    `added` says that it is added to the base's tensor rather than put in its place: to an adapter without it, zeros.
    """

    name: str
    origin: str
    shape: tuple[int, ...]
    rows: tuple[int, ...] | None = None
    added: bool = False

    @property
    def is_matrix(self) -> bool:
        """Whether it is a matrix of which all rows take the place of the base's."""
        return self.rows is None and len(self.shape) == 2 and not self.added


class Group:
    """Adapters to be merged. `modules` are what any of them changes, in the order in which it is met.

    With a `base` their changes may depend on it, as DoRA's do, or be of stacks of experts: `stacks` has the modules of
    each, one an expert. Raises CheckpointError that names what cannot be merged with what, or has no place in the base.
    """

    def __init__(self, adapters: Sequence[Adapter], base: TensorSource | None = None) -> None:
        self.adapters = tuple(adapters)
        self.base = base
        self.stand_in = False
        """Whether the first adapter's whole tensors stand for the base's: right where the weights sum to one."""
        problems = list(_lacking_base(self.adapters)) if base is None else []
        problems += [*_clashes(self.adapters), *_repeating(self.adapters)]
        if problems:
            raise several(problems)
        self._over = OverBase(base, self.adapters) if base is not None else None
        self.stacks = self._over.stacks if self._over is not None else {}
        plain = chain.from_iterable(map(_plain_modules, adapters))
        changed = chain.from_iterable(adapter.changes for adapter in adapters)
        experts = chain.from_iterable(self.stacks.values())
        self.modules = tuple(dict.fromkeys([*plain, *changed, *experts]))

    @property
    def is_of_low_rank(self) -> bool:
        """Whether every change is a product of factors."""
        return not any(map(is_dense, self.adapters))

    def shape(self, module: str) -> tuple[int, int]:
        """Return the shape of a module's change, [out, in]; of an embedding [tokens, width]."""
        for adapter in self.adapters:
            if module in adapter.factors and module not in self._experts:
                return adapter.shape(adapter.factors[module])
        return self._base_changes.shape(module)

    def embeds(self, module: str) -> bool:
        """Say whether a module is an embedding."""
        kinds = {a.factors[module].kind for a in self.adapters if module in a.factors}
        if kinds or self._over is None:
            return "embedding" in kinds
        return self._over.embeds(module)

    def kernel(self, module: str) -> tuple[int, ...]:
        """Return the axes after the outputs of a module that is a convolution; nothing of others."""
        kernels = {a.factors[module].kernel for a in self.adapters if module in a.factors}
        return next(iter(kernels), ())

    def ranks(self, module: str) -> list[int]:
        """Return each adapter's rank in a module; 0 where it does not change it."""
        return [self._rank(adapter, which, module) for which, adapter in enumerate(self.adapters)]

    def _rank(self, adapter: Adapter, which: int, module: str) -> int:
        if module in self._experts:
            return self._base_changes.rank(which, module)
        if is_dense(adapter) and _changes(adapter, module):
            return min(self.shape(module))
        factors = adapter.factors.get(module)
        return factors.rank if factors is not None else 0

    def deltas(self, module: str) -> list[Delta]:
        """Read each adapter's change of a module; of a product the scale is shared between the two sides."""
        if module in self._experts:
            return list(self._base_changes.products(module))
        deltas: list[Delta] = []
        for which, adapter in enumerate(self.adapters):
            if is_dense(adapter) and _changes(adapter, module):
                deltas.append(self._base_changes.difference(which, module))
            else:
                deltas.append(_product(adapter, module, self.shape(module)))
        return deltas

    def laid_as_stored(self, parameter: str) -> bool:
        """Say whether PEFT lays a stack's factors for the axes as they are stored, though those are turned."""
        return self._base_changes.laid_as_stored(parameter)

    @cached_property
    def _experts(self) -> frozenset[str]:
        return frozenset(chain.from_iterable(self.stacks.values()))

    @property
    def _base_changes(self) -> OverBase:
        assert self._over is not None, "without a base there are plain factors only"
        return self._over

    @cached_property
    def wholes(self) -> tuple[Whole, ...]:
        """The tensors that some adapter holds whole. Mere copies of the base's weights are not among them."""
        found: dict[str, Whole] = {}
        for adapter in self.adapters:
            for whole in self._wholes_of(adapter):
                found.setdefault(whole.name, whole)
        return tuple(found.values())

    @cached_property
    def copies(self) -> dict[str, tuple[Adapter, str]]:
        """Copies of the base's weights that PEFT saves beside factors of embeddings and heads: by name, one each."""
        found: dict[str, tuple[Adapter, str]] = {}
        for adapter in self.adapters:
            for name, stored in adapter.full.items():
                if _is_copy(adapter, stored):
                    found.setdefault(name, (adapter, stored))
        return found

    def whole(self, name: str) -> Whole | None:
        """Return the whole tensor of that name, if there is any."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Whole]:
        return {whole.name: whole for whole in self.wholes}

    def lacking(self) -> list[tuple[Whole, Adapter]]:
        """List whole tensors that some adapter lacks, for which the base's would be needed, with that adapter."""
        pairs = []
        for whole in self.wholes:
            if not whole.added:
                pairs += [(whole, adapter) for adapter in self.adapters if not self._holds(adapter, whole)]
        return pairs

    def read(self, whole: Whole, which: int) -> np.ndarray:
        """Read an adapter's whole tensor; where it has none the base's, with rows of its own put in."""
        adapter = self.adapters[which]
        if whole.added:
            factors = adapter.factors.get(whole.name.removesuffix(BIAS))
            if factors is None or factors.bias is None:
                return np.zeros(whole.shape, np.float32)
            return adapter.read(factors.bias) * np.float32(factors.scale)
        if whole.rows is not None:
            return self._read_tokens(whole, adapter, which)
        if self._over is not None and self._over.changes_bias(which, whole.origin):
            return self._over.read(which, whole.origin)
        stored = adapter.full.get(whole.origin)
        return adapter.read(stored) if stored is not None else self.read_base(whole)

    def read_base(self, whole: Whole) -> np.ndarray:
        """Read the base's tensor, or its rows. Raises CheckpointError if there is no base to read it from."""
        if whole.added:
            return np.zeros(whole.shape, np.float32)
        if self.base is None:
            if self.stand_in:
                return self.read(whole, 0)
            raise CheckpointError(f"'{whole.origin}' is needed of the base, which is not given")
        width, origin = whole.shape[-1], self._base_changes.origins[whole.origin]
        if whole.rows is None:
            height = int(np.prod(whole.shape)) // max(width, 1)
            return read_rows(self.base, origin, 0, height, width).astype(np.float32).reshape(whole.shape)
        rows = [read_rows(self.base, origin, row, row + 1, width) for row in whole.rows]
        return np.concatenate(rows).astype(np.float32)

    def read_change(self, whole: Whole, which: int, first: int, last: int) -> np.ndarray:
        """Read an adapter's whole tensor minus the base's, from entry `first` up to `last`, flat.

        Of a tensor that the adapter has saved only the rows that hold those entries are read: embeddings are asked for
        in thousands of pieces.
        """
        adapter = self.adapters[which]
        stored = adapter.full.get(whole.origin)
        if self.base is None or not whole.is_matrix:
            return self._difference(whole, which)[first:last]
        if stored is None:
            return np.zeros(last - first, np.float32)  # where an adapter has saved nothing, the base's stays
        if adapter.source.tensors[stored].shape != whole.shape:
            return self._difference(whole, which)[first:last]
        width = whole.shape[-1]
        low, high = first // width, -(-last // width)
        base = read_rows(self.base, self._base_changes.origins[whole.origin], low, high, width).astype(np.float32)
        rows = adapter.read_rows(stored, low, high) - base
        return np.asarray(rows.reshape(-1)[first - low * width : last - low * width])

    def _difference(self, whole: Whole, which: int) -> np.ndarray:
        """Read an adapter's whole tensor minus the base's, flat."""
        change: np.ndarray = self.read(whole, which) - self.read_base(whole)
        return change.reshape(-1)

    def _read_tokens(self, whole: Whole, adapter: Adapter, which: int) -> np.ndarray:
        assert whole.rows is not None, "only called for rows of tokens"
        tokens = adapter.tokens.get(whole.name.removesuffix(TOKENS))
        own, own_rows = np.zeros((0, whole.shape[-1]), np.float32), {}
        if tokens is not None:
            own = adapter.read(tokens.stored)
            own_rows = {token: row for row, token in enumerate(tokens.indices)}
        if own_rows.keys() >= set(whole.rows):
            return own[[own_rows[token] for token in whole.rows]]
        full = adapter.full.get(whole.origin)
        rows = self.read_base(whole) if full is None else adapter.read(full)[list(whole.rows)]
        for position, token in enumerate(whole.rows):
            if token in own_rows:
                rows[position] = own[own_rows[token]]
        return rows

    def _holds(self, adapter: Adapter, whole: Whole) -> bool:
        if whole.rows is not None:
            tokens = adapter.tokens.get(whole.name.removesuffix(TOKENS))
            return tokens is not None and set(whole.rows) <= set(tokens.indices)
        return whole.origin in adapter.full

    def _wholes_of(self, adapter: Adapter) -> Iterator[Whole]:
        for name, stored in adapter.full.items():
            if _is_copy(adapter, stored):
                continue
            module, _, parameter = name.rpartition(".")
            inner = f"{module}.base_layer.{parameter}" if module in self.modules else name
            yield Whole(inner, name, adapter.source.tensors[stored].shape)
        for module, tokens in adapter.tokens.items():
            union: set[int] = set()
            for other in self.adapters:
                if module in other.tokens:
                    union.update(other.tokens[module].indices)
            width = adapter.source.tensors[tokens.stored].shape[1]
            rows = tuple(sorted(union))
            yield Whole(module + TOKENS, f"{module}.weight", (len(rows), width), rows)
        if self._over is not None:
            for name, shape in self._over.biases(self.adapters.index(adapter)).items():
                yield Whole(f"{name.removesuffix('.bias')}.base_layer.bias", name, shape)
        for module, factors in adapter.factors.items():
            if factors.bias is not None:
                yield Whole(module + BIAS, "", adapter.source.tensors[factors.bias].shape, added=True)


def _is_copy(adapter: Adapter, stored: str) -> bool:
    """Say whether a tensor is the frozen weight of a module that has factors, which PEFT saves with embeddings."""
    return stored.endswith(COPY) and stored.removesuffix(COPY).removeprefix("base_model.model.") in adapter.factors


def depends_on_base(adapter: Adapter) -> bool:
    """Say whether an adapter's changes can only be computed with its base."""
    kinds = {factors.kind for factors in adapter.factors.values()}
    return is_dense(adapter) or "parameter" in kinds


def is_dense(adapter: Adapter) -> bool:
    """Say whether an adapter changes matrices by more than its factors: DoRA, PiSSA, and other kinds than LoRA."""
    return bool(adapter.changes) or any(map(_needs_base, adapter.factors.values()))


def _needs_base(factors: Factors) -> bool:
    return factors.magnitude is not None or factors.start is not None


def _plain_modules(adapter: Adapter) -> list[str]:
    """List the modules whose factors are not of stacks of experts."""
    return [module for module, factors in adapter.factors.items() if factors.kind != "parameter"]


def _changes(adapter: Adapter, module: str) -> bool:
    return module in adapter.factors or module in adapter.changes


def _product(adapter: Adapter, module: str, shape: tuple[int, int]) -> Product:
    factors = adapter.factors.get(module)
    if factors is None:
        return nothing(shape)
    left, right = (side.astype(np.float64) for side in adapter.pair(factors))
    return balanced(left, right, factors.scale)


def _lacking_base(adapters: Sequence[Adapter]) -> Iterator[CuveeError]:
    for adapter in adapters:
        if depends_on_base(adapter):
            message = "what this adapter changes is only known with its base, and that is not given"
            yield CheckpointError(message, where=adapter.name, hint="name the base with --base")


def _repeating(adapters: Sequence[Adapter]) -> Iterator[CuveeError]:
    for adapter in adapters:
        if adapter.config.layer_spans:
            message = "this adapter repeats layers of its base (layer_replication), and its change is of all of them"
            hint = "apply it to its base (cuvee adapters apply), then merge the models"
            yield CheckpointError(message, where=adapter.name, hint=hint)


def _clashes(adapters: Sequence[Adapter]) -> Iterator[CuveeError]:
    """Say which modules have different shapes in the adapters: they were not trained on one base."""
    for module in dict.fromkeys(chain.from_iterable(adapter.factors for adapter in adapters)):
        shapes = {}
        for adapter in adapters:
            factors = adapter.factors.get(module)
            if factors is not None and factors.kind != "parameter":
                shapes[adapter.name] = adapter.shape(factors), factors.kind, factors.kernel
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{list(shape)} in {name}" for name, (shape, *_) in shapes.items())
            yield CheckpointError(f"'{module}' has different shapes: {listed}", hint="are they of one base?")
            return
