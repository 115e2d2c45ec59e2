"""The changes of a fine-tuned model that get factors, and the tensors that are saved whole: as PEFT can hold them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from cuvee.adapters.experts import SpreadStacks, order_in_module
from cuvee.adapters.heads import head_name
from cuvee.engine.model_pair import Pair
from cuvee.errors import CheckpointError
from cuvee.structure import TensorPlace
from cuvee.structure.config import hint

RENAMED_BY_PEFT = ("gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
"""Words that PEFT takes for the experts of old files, if they end the name of any target module of a mixture.

PEFT 0.21.2, utils/transformers_weight_conversion.py. It leaves target parameters alone.
"""


@dataclass(frozen=True)
class Stack:
    """Matrices of experts that PEFT adapts as a single parameter, by its name in memory.

    `pieces` are the tensors of each expert, from top to bottom; for experts in one tensor it is that alone.
    """

    parameter: str
    pieces: tuple[tuple[str, ...], ...]
    in_one: bool

    @property
    def module(self) -> str:
        return self.parameter.rpartition(".")[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all its tensors."""
        return tuple(chain.from_iterable(self.pieces))

    def changes(self, pair: Pair) -> Iterator[np.ndarray]:
        """Read the change of each expert's matrix, as PEFT lays its factors: [out, in] but for a few families."""
        if not self.in_one:
            for piece in self.pieces:
                yield np.concatenate([_wanted_change(pair, name) for name in piece])
            return
        place = pair.base.structure.of(self.pieces[0][0])
        if not place.axes_known:
            message = f"nothing tells whether '{place.name}' is stored by outputs or by inputs"
            raise CheckpointError(message, where=pair.names[1])
        turned = place.input_first and not hint(pair.base.source.config, "peft_as_is")
        for matrix in pair.change(place):
            yield matrix.T if turned else matrix


def _wanted_change(pair: Pair, name: str) -> np.ndarray:
    place = pair.base.structure.of(name)
    change = pair.change(place)
    return change if pair.parts.has(place) else np.zeros_like(change)


@dataclass(frozen=True)
class Targets:
    """Tensors that get factors, and tensors that are saved whole, by the base's names.

    `saved` are modules, with all below them; `biases` those of matrices with factors; `replaced` are tensors that PEFT
    puts in the place of the base's own, wherever that is used. `head` is that of a model whose base has none.
    """

    matrices: tuple[TensorPlace, ...]
    stacks: tuple[Stack, ...]
    saved: tuple[str, ...]
    biases: frozenset[str]
    replaced: tuple[str, ...] = ()
    head: str | None = None

    @property
    def has_wholes(self) -> bool:
        return bool(self.saved or self.replaced or self.head)

    def depth(self, stack: Stack) -> int:
        """Return how many wrappers PEFT puts around a stack's own: those of the module's later parameters."""
        order = order_in_module(stack.parameter)
        others = [other for other in self.stacks if other.module == stack.module]
        return sum(order_in_module(other.parameter) > order for other in others)

    def holds(self, name: str) -> bool:
        """Say whether a tensor's change is in the adapter."""
        adapted = {place.name for place in self.matrices}
        adapted.update(*(stack.names for stack in self.stacks))
        if name in adapted | self.biases | set(self.replaced):
            return True
        return _is_within_any(name, self.saved)


def chosen_targets(pair: Pair, *, embeddings: bool, rest: bool) -> Targets:
    """Decide which tensors get factors. PEFT saves a module with any other change whole.

    Raises CheckpointError for changes that PEFT cannot hold.
    """
    every = _stacks(pair)
    in_stacks = set(chain.from_iterable(stack.names for stack in every))
    outside = [place for place in pair.places() if place.name not in in_stacks]
    matrices = [place for place in outside if _is_matrix(place, pair, embeddings)]
    others = _other_changes(pair, outside, matrices) if rest else _Others()
    saved = tuple(module for module in others.modules if not _is_within_any(module, others.modules))

    stacks = []
    for stack in every:
        if not any(map(pair.has_changed, _places(pair, stack))):
            continue
        if not _is_within_any(f"{stack.module}.x", saved):
            stacks.append(stack)
        elif not stack.in_one:
            change = f"something beside the experts of '{stack.module}' has changed"
            message = f"{change}, which PEFT can only save with them"
            raise CheckpointError(message, where=pair.names[0], hint="--skip-rest leaves it out")
    with_factors = [place for place in matrices if not _is_within_any(place.name, saved)]
    biases = [name for name in others.biases if not _is_within_any(name, saved)]
    has_head = rest and pair.has_new_head()
    return Targets(
        matrices=tuple(with_factors),
        stacks=tuple(stacks),
        saved=saved,
        biases=frozenset(biases),
        replaced=others.replaced,
        head=pair.head if has_head else None,
    )


@dataclass(frozen=True)
class _Others:
    """Changes of tensors that get no factors: modules to save, biases of matrices with factors, tensors to replace."""

    modules: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


def _other_changes(pair: Pair, outside: Sequence[TensorPlace], matrices: Sequence[TensorPlace]) -> _Others:
    """Find the changes `outside` the stacks that get no factors. Raises CheckpointError for a tensor of no module."""
    with_factors = {place.name.removesuffix(".weight"): place for place in matrices}
    modules: dict[str, None] = {}
    biases: list[str] = []
    replaced: list[str] = []
    for place in outside:
        module, _, parameter = place.name.rpartition(".")
        has_factors = module in with_factors and parameter == "weight"
        if has_factors or not pair.has_changed(place):
            continue
        if module in with_factors and pair.has_changed(with_factors[module]):
            biases.append(place.name)
        elif _is_tied_to_unknown(place, pair):
            replaced.append(place.name)
        elif module:
            modules[module] = None
        else:
            message = f"'{place.name}' has changed, which is in no module that PEFT could save"
            raise CheckpointError(message, where=pair.names[0], hint="--skip-rest leaves it out")
    return _Others(tuple(modules), tuple(biases), tuple(replaced))


def becomes_parameter(module: str, pair: Pair) -> bool:
    """Say whether PEFT would take a module for experts, and its matrix must be among `target_parameters` instead."""
    if module.rpartition(".")[2] not in RENAMED_BY_PEFT:
        return False
    return any(place.experts is not None or place.expert is not None for place in pair.places())


def is_within(name: str, module: str) -> bool:
    """Say whether a tensor or module is inside a module."""
    return name.startswith(f"{module}.")


def _is_within_any(name: str, modules: Iterable[str]) -> bool:
    return any(is_within(name, module) for module in modules)


def _places(pair: Pair, stack: Stack) -> list[TensorPlace]:
    return [pair.base.structure.of(name) for name in stack.names]


def _is_matrix(place: TensorPlace, pair: Pair, embeddings: bool) -> bool:
    """Say whether a tensor gets factors: weights of linear maps, of embeddings and heads if asked for.

    A router is saved whole: in transformers 5 it is a module of its own class, to which PEFT adds no factors. So is a
    map whose module is never called, as the code of a family takes its weight (the hint `peft_whole`).
    """
    includes_embeddings = embeddings and pair.tie is None
    roles = ("linear", "embedding", "head") if includes_embeddings else ("linear",)
    if place.role not in roles or not place.name.endswith(".weight"):
        return False
    saved_whole = hint(pair.base.source.config, "peft_whole")
    is_matrix = len(pair.base.source.tensors[place.name].shape) == 2
    return is_matrix and place.name.split(".")[-2] not in saved_whole


def _is_tied_to_unknown(place: TensorPlace, pair: Pair) -> bool:
    """Say whether a tensor is an embedding whose head, of no plain class, reads from it, too."""
    if pair.tie is None or pair.head is not None:
        return False
    return pair.tie.embedding == place.name and head_name(pair.tie, pair.base.source.config) is None


def _stacks(pair: Pair) -> list[Stack]:
    """List the stacks of experts that memory holds in one parameter each, wherever the base has them."""
    spread = SpreadStacks(pair.base.source.tensors)
    stacks = [
        Stack(pair.in_memory(parameter), found.names, False) for parameter, found in spread.all() if found is not None
    ]
    for place in pair.places():
        parameter = pair.in_memory(place.name)
        if place.experts is not None and not parameter.endswith((".weight", "bias")):
            stacks.append(Stack(parameter, ((place.name,),), True))
    return stacks
