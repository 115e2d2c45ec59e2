"""Several adapters of one base, side by side: which modules they change, and the tensors that they hold whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cuvee.adapters.adapted import read_rows
from cuvee.adapters.adapter import Adapter
from cuvee.adapters.low_rank import Product
from cuvee.adapters.places import place
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


class Group:
    """Adapters to be merged. `modules` are those that any of them changes, in the order in which they are met.

    Raises CheckpointError that names what cannot be merged with what, or has no place in the base if there is one.
    """

    def __init__(self, adapters: Sequence[Adapter], base: TensorSource | None = None) -> None:
        self.adapters = tuple(adapters)
        self.base = base
        self.stand_in = False
        """Whether the first adapter's whole tensors stand for the base's: right where the weights sum to one."""
        problems = list(_not_mergeable(self.adapters))
        self.modules = tuple(dict.fromkeys(module for adapter in adapters for module in adapter.factors))
        problems += _clashes(self.adapters, self.modules)
        if problems:
            raise several(problems)
        placed = [place(base, adapter) for adapter in self.adapters] if base is not None else []
        other = next((name for one in placed for name in one.resized), None)
        if other is not None:
            message = f"an adapter has '{other}' for other tokens than the base has"
            raise CheckpointError(message, hint="apply it to its base (cuvee adapters apply), then merge the models")
        self._origins = {name: origin for one in placed for name, origin in one.origins.items()}

    def shape(self, module: str) -> tuple[int, int]:
        """Return the shape of a module's change, [out, in]; of an embedding [tokens, width]."""
        return next(a.shape(a.factors[module]) for a in self.adapters if module in a.factors)

    def embeds(self, module: str) -> bool:
        """Say whether a module is an embedding."""
        return any(a.factors[module].kind == "embedding" for a in self.adapters if module in a.factors)

    def ranks(self, module: str) -> list[int]:
        """Return each adapter's rank in a module; 0 where it does not change it."""
        return [a.factors[module].rank if module in a.factors else 0 for a in self.adapters]

    def products(self, module: str) -> list[Product]:
        """Read each adapter's change of a module; the scale is shared between the two sides."""
        return [_product(adapter, module, self.shape(module)) for adapter in self.adapters]

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
        """Return the whole tensor of that name, if it is one."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Whole]:
        return {whole.name: whole for whole in self.wholes}

    def lacking(self) -> list[tuple[Whole, Adapter]]:
        """List whole tensors that some adapter lacks, for which the base's would be needed, with that adapter."""
        return [
            (whole, adapter)
            for whole in self.wholes
            if not whole.added
            for adapter in self.adapters
            if not self._holds(adapter, whole)
        ]

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
        width, origin = whole.shape[-1], self._origins[whole.origin]
        if whole.rows is None:
            height = int(np.prod(whole.shape)) // max(width, 1)
            return read_rows(self.base, origin, 0, height, width).astype(np.float32).reshape(whole.shape)
        rows = [read_rows(self.base, origin, row, row + 1, width) for row in whole.rows]
        return np.concatenate(rows).astype(np.float32)

    def _read_tokens(self, whole: Whole, adapter: Adapter, which: int) -> np.ndarray:
        assert whole.rows is not None, "only called for rows of tokens"
        tokens = adapter.tokens.get(whole.name.removesuffix(TOKENS))
        own = adapter.read(tokens.stored) if tokens is not None else np.zeros((0, whole.shape[-1]), np.float32)
        places = {token: row for row, token in enumerate(tokens.indices)} if tokens is not None else {}
        if all(token in places for token in whole.rows):
            return own[[places[token] for token in whole.rows]]
        full = adapter.full.get(whole.origin)
        rows = self.read_base(whole) if full is None else adapter.read(full)[list(whole.rows)]
        for position, token in enumerate(whole.rows):
            if token in places:
                rows[position] = own[places[token]]
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
            union = dict.fromkeys(t for a in self.adapters if module in a.tokens for t in a.tokens[module].indices)
            width = adapter.source.tensors[tokens.stored].shape[1]
            rows = tuple(sorted(union))
            yield Whole(module + TOKENS, f"{module}.weight", (len(rows), width), rows)
        for module, factors in adapter.factors.items():
            if factors.bias is not None:
                yield Whole(module + BIAS, "", adapter.source.tensors[factors.bias].shape, added=True)


def _is_copy(adapter: Adapter, stored: str) -> bool:
    """Say whether a tensor is the frozen weight of a module that has factors, which PEFT saves with embeddings."""
    return stored.endswith(COPY) and stored.removesuffix(COPY).removeprefix("base_model.model.") in adapter.factors


def _product(adapter: Adapter, module: str, shape: tuple[int, int]) -> Product:
    factors = adapter.factors.get(module)
    if factors is None:
        return Product(np.zeros((shape[0], 0)), np.zeros((0, shape[1])))
    left, right = (side.astype(np.float64) for side in adapter.pair(factors))
    share = np.sqrt(abs(factors.scale)) or 1.0
    return Product(left / share, right * share)


def _not_mergeable(adapters: Sequence[Adapter]) -> Iterator[CuveeError]:
    for adapter in adapters:
        if adapter.config.kind is not None:
            message = f"is a {adapter.config.kind.name} adapter, and only LoRA adapters are merged as factors"
            hint = "apply it to its base (cuvee adapters apply), then merge the models, or extract an adapter from one"
            yield CheckpointError(message, where=adapter.name, hint=hint)
            continue
        with_magnitude = next((f.module for f in adapter.factors.values() if f.magnitude is not None), None)
        if with_magnitude is not None:
            message = f"has DoRA (in '{with_magnitude}'): what it changes depends on the base, and is not of low rank"
            hint = "apply it to its base (cuvee adapters apply), then merge the models, or extract an adapter from one"
            yield CheckpointError(message, where=adapter.name, hint=hint)
        of_experts = next((f.module for f in adapter.factors.values() if f.kind == "parameter"), None)
        if of_experts is not None:
            message = f"has factors of parameters (in '{of_experts}'), which cannot be merged as factors"
            yield CheckpointError(message, where=adapter.name, hint="apply it to its base, then merge the models")


def _clashes(adapters: Sequence[Adapter], modules: Sequence[str]) -> Iterator[CuveeError]:
    """Say which modules have different shapes in the adapters: they were not trained on one base."""
    for module in modules:
        shapes = {a.name: (a.shape(a.factors[module]), a.factors[module].kind) for a in adapters if module in a.factors}
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{list(shape)} in {name}" for name, (shape, _) in shapes.items())
            yield CheckpointError(f"'{module}' has different shapes: {found}", hint="are they of one base?")
            return
