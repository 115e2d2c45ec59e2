"""A fine-tuned model minus its base -> a LoRA adapter: the best of its rank for each matrix, the rest as it is."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cuvee.adapters.adapted import read_rows
from cuvee.adapters.experts import SpreadStacks, order_in_module
from cuvee.adapters.low_rank import Kept, Product, Wanted, compressed, singular
from cuvee.adapters.places import head_name
from cuvee.adapters.write import AdapterFile, Described
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES
from cuvee.checkpoint.folders import refuse_sub_folders
from cuvee.checkpoint.stored_file import recorded
from cuvee.engine.adapter_card import Made, ModuleKept, Parent, adapter_card, adapter_record
from cuvee.engine.combine import AdapterResult
from cuvee.engine.nothing import put_nothing
from cuvee.errors import CheckpointError, CuveeError, RecipeError, several
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.plan.names import View, view_as, view_of
from cuvee.progress import Progress, Silent
from cuvee.structure import TensorPlace
from cuvee.structure.config import hint, in_memory

MOST_SHOWN = 8


@dataclass(frozen=True)
class Extraction:
    """What to extract: a rank for each matrix, a part of its energy, or a `budget` of ranks for all together.

    A budget is given to the strongest directions of the whole model. With `embeddings` those and heads get factors,
    too, unless the base ties them; otherwise, if they have changed, they are saved whole as everything that is no
    matrix is, unless `rest` is false.
    """

    wanted: Wanted = field(default_factory=lambda: Wanted(rank=16))
    budget: int | None = None
    embeddings: bool = False
    rest: bool = True
    dtype: str = "float32"


def extract(
    model: TensorSource,
    base: TensorSource,
    out: Path,
    how: Extraction,
    *,
    names: tuple[str, str],
    threads: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AdapterResult:
    """Write an adapter that turns `base` into nearly `model`. `names` are those of the two, for the card.

    Raises CheckpointError where the two differ in more than their numbers.
    """
    _check(how)
    refuse_sub_folders(model.files(), names[0], "an adapter")
    refuse_sub_folders(base.files(), names[1], "an adapter")
    started, heard = time.perf_counter(), progress or Silent()
    pair = _Pair(base, model, names)
    with AdapterFile(out.absolute(), NAMES[how.dtype], overwrite=overwrite) as file, one_thread_a_matrix():
        targets = chosen_targets(pair, how)
        matrices = list(targets.matrices)
        ranks = _shared_out(pair, matrices, how.budget, threads) if how.budget is not None else {}
        heard.start("extract", len(matrices), "matrices")
        kept: dict[str, ModuleKept] = {}
        for place, found in _decomposed(pair, matrices, how, ranks, threads):
            module = place.name.removesuffix(".weight")
            if found is not None:
                kept[module] = ModuleKept(module, found.product.rank, found.energy, found.total)
                if found.product.rank:
                    file.put_factors(pair.in_memory(module), found.product, embeds=place.role == "embedding")
            heard.advance(1)
        for stack in targets.stacks:
            kept |= _put_stack(pair, stack, targets.depth(stack), how, file)
        heard.finish()
        described, notes = _save_rest(pair, targets, file, how)
        if not file.ranks and not file.parameters and not described.modules_to_save:
            raise CheckpointError("the two models are equal: there is nothing to extract", where=names[0])
        if not file.ranks and not file.parameters:
            put_nothing(base, file, (place.name for place in matrices))
        modules = tuple(kept[module] for module in sorted(kept))
        parents = (
            Parent(names[0], "the fine-tuned model", recorded(model.files()), model.place),
            Parent(names[1], "its base", recorded(base.files()), base.place),
        )
        made = Made("by extracting the difference of two models", described, parents, modules, (), notes, file.digest)
        file.finish(
            described, adapter_card(made), adapter_record(made, {"method": "extract", "rank_budget": how.budget})
        )
    return AdapterResult(out, made.digest, modules, (), notes, time.perf_counter() - started)


class _Pair:
    """The two models, tensor by tensor under the base's names."""

    def __init__(self, base: TensorSource, model: TensorSource, names: tuple[str, str]) -> None:
        self.base: View = view_of(base)
        self.model: View = view_as(self.base, model)
        self.names = names
        self.tie = next((t for t in self.base.structure.ties if t.state in ("tied", "stored twice")), None)
        problems: list[CuveeError] = []
        for name, spec in base.tensors.items():
            own = self.model.called.get(name)
            if own is None:
                problems.append(CheckpointError(f"has no tensor '{name}', which the base has", where=names[0]))
            elif model.tensors[own].shape != spec.shape:
                shapes = f"{list(model.tensors[own].shape)}, in the base {list(spec.shape)}"
                problems.append(CheckpointError(f"'{name}' has shape {shapes}", where=names[0]))
        extra = [name for name in self.model.called if name not in base.tensors]
        problems += [CheckpointError(f"has '{name}', which the base has not", where=names[0]) for name in extra]
        if problems:
            more = len(problems) - MOST_SHOWN
            raise several(problems[:MOST_SHOWN] + ([CheckpointError(f"and {more} more")] if more > 0 else []))

    def places(self) -> list[TensorPlace]:
        return [self.base.structure.of(name) for name in self.base.source.tensors]

    def in_memory(self, name: str) -> str:
        """Return the name that transformers has in memory for a module or tensor of the base."""
        return in_memory(name, self.base.source.config)

    def expert_changes(self, stack: "Stack") -> Iterator[np.ndarray]:
        """Read what changed in each expert's matrix, as PEFT lays its factors: [out, in] but for a few families."""
        if not stack.in_one:
            for piece in stack.pieces:
                yield np.concatenate([self.change(self.base.structure.of(name)) for name in piece])
            return
        place = self.base.structure.of(stack.pieces[0][0])
        if not place.axes_known:
            message = f"nothing tells whether '{place.name}' is stored by outputs or by inputs"
            raise CheckpointError(message, where=self.names[1])
        turned = place.input_first and not hint(self.base.source.config, "peft_as_is")
        for matrix in self.change(place):
            yield matrix.T if turned else matrix

    def dtype(self, name: str) -> str:
        """Return the type that the model stores a tensor in."""
        return self.model.spec(name).dtype

    def model_numbers(self, name: str) -> np.ndarray:
        return _numbers(self.model.source, self.model.called[name])

    def change(self, place: TensorPlace) -> np.ndarray:
        """Read what changed in a tensor, in float32; of a matrix as [out, in]."""
        name = place.name
        change = self.model_numbers(name).astype(np.float32) - _numbers(self.base.source, name).astype(np.float32)
        if not np.isfinite(change).all():
            raise CheckpointError(f"'{name}' holds numbers that are not finite", where=self.names[0])
        return change.T if place.input_first and change.ndim == 2 else change


@dataclass(frozen=True)
class Stack:
    """Matrices of experts that PEFT adapts as one parameter, by its name in memory.

    `pieces` are the tensors of each expert, one below the other; for experts in one tensor it is that alone.
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
        return tuple(name for piece in self.pieces for name in piece)


@dataclass(frozen=True)
class Targets:
    """What gets factors, and which modules are saved whole with all below them, by the base's names."""

    matrices: tuple[TensorPlace, ...]
    stacks: tuple[Stack, ...]
    saved: tuple[str, ...]
    biases: frozenset[str]

    def depth(self, stack: Stack) -> int:
        """Return how many wrappers PEFT puts around a stack's own: those of the module's later parameters."""
        order = order_in_module(stack.parameter)
        others = [other for other in self.stacks if other.module == stack.module]
        return sum(order_in_module(other.parameter) > order for other in others)


def chosen_targets(pair: "_Pair", how: Extraction) -> Targets:
    """Decide what gets factors. A module with anything else that changed is saved whole, as PEFT can only do that.

    Raises CheckpointError for what PEFT can hold in no way.
    """
    stacks = _stacks(pair)
    in_stacks = {name for stack in stacks for name in stack.names}
    candidates = [place for place in pair.places() if place.name not in in_stacks and _is_matrix(place, pair, how)]
    modules = {place.name.removesuffix(".weight"): place for place in candidates}
    saved: dict[str, None] = {}
    biases: set[str] = set()
    for place in pair.places() if how.rest else ():
        name = place.name
        module, _, parameter = name.rpartition(".")
        if module in modules and parameter == "weight":
            continue
        if name in in_stacks or pair.dtype(name) not in MERGEABLE or not pair.change(place).any():
            continue
        if module in modules and pair.change(modules[module]).any():
            biases.add(name)
        elif module:
            saved[module] = None
        else:
            message = f"'{name}' has changed, which is in no module that PEFT could save"
            raise CheckpointError(message, where=pair.names[0], hint="--skip-rest leaves it out")
    outer = tuple(module for module in saved if not any(_is_within(module, other) for other in saved))
    inside = [stack for stack in stacks if any(_is_within(f"{stack.module}.x", module) for module in outer)]
    split = next((stack for stack in inside if not stack.in_one), None)
    if split is not None:
        message = f"something beside the experts of '{split.module}' has changed, which PEFT can only save with them"
        raise CheckpointError(message, where=pair.names[0], hint="--skip-rest leaves it out")
    return Targets(
        tuple(place for place in candidates if not any(_is_within(place.name, module) for module in outer)),
        tuple(stack for stack in stacks if stack not in inside),
        outer,
        frozenset(name for name in biases if not any(_is_within(name, module) for module in outer)),
    )


def _is_within(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


def _is_matrix(place: TensorPlace, pair: "_Pair", how: Extraction) -> bool:
    """Say whether a tensor gets factors: weights of linear maps, of embeddings and heads if asked for.

    A router is saved whole: in transformers 5 it is a module of its own class, to which PEFT adds no factors.
    """
    roles = ("linear", "embedding", "head") if how.embeddings and pair.tie is None else ("linear",)
    spec = pair.base.source.tensors[place.name]
    return len(spec.shape) == 2 and place.role in roles and place.name.endswith(".weight")


def _stacks(pair: "_Pair") -> list[Stack]:
    """List the stacks of experts that memory holds in one parameter each, wherever the base has them."""
    spread = SpreadStacks(pair.base.source.tensors)
    stacks = [
        Stack(pair.in_memory(parameter), found.names, False) for parameter, found in spread.all() if found is not None
    ]
    for place in pair.places():
        if place.experts is not None and not place.name.endswith((".weight", "bias")):
            stacks.append(Stack(pair.in_memory(place.name), ((place.name,),), True))
    return stacks


def _put_stack(pair: "_Pair", stack: Stack, depth: int, how: Extraction, file: AdapterFile) -> dict[str, ModuleKept]:
    """Write the factors of a stack, of one rank for all experts; return what was kept of it."""
    if how.budget is not None:
        raise RecipeError("a budget of ranks cannot be shared out over stacks of experts", hint="give --rank instead")
    products: list[Product] = []
    energy = total = 0.0
    shape = (0, 0)
    for change in pair.expert_changes(stack):
        shape = change.shape
        if not change.any():
            products.append(Product(np.zeros((shape[0], 0)), np.zeros((0, shape[1]))))
            continue
        found = compressed(change, how.wanted, None, None)
        products.append(found.product)
        energy, total = energy + found.energy, total + found.total
    rank = max((product.rank for product in products), default=0)
    if rank == 0:
        return {}
    file.put_stack(stack.parameter, products, rank, depth)
    return {stack.parameter: ModuleKept(stack.parameter, rank, energy, total)}


def _decomposed(
    pair: _Pair, places: Sequence[TensorPlace], how: Extraction, ranks: Mapping[str, int], threads: int
) -> Iterator[tuple[TensorPlace, Kept | None]]:
    """Give each matrix's change, compressed; None where nothing changed."""

    def work(place: TensorPlace) -> tuple[TensorPlace, Kept | None]:
        change = pair.change(place)
        if not change.any():
            return place, None
        wanted = Wanted(rank=ranks.get(place.name, 0)) if how.budget is not None else how.wanted
        return place, compressed(change, wanted, None, None)

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, places)


def _shared_out(pair: _Pair, places: Sequence[TensorPlace], budget: int, threads: int) -> dict[str, int]:
    """Share a budget of ranks out: to the directions of the whole model that have most energy."""

    def work(place: TensorPlace) -> np.ndarray:
        return singular(pair.change(place))[1][:budget]

    with ThreadPoolExecutor(threads) as pool:
        values = list(pool.map(work, places))
    owners = np.repeat(np.arange(len(places)), [len(found) for found in values])
    strongest = np.argsort(-np.concatenate([*values, np.zeros(0)]), kind="stable")[:budget]
    return {place.name: int((owners[strongest] == i).sum()) for i, place in enumerate(places)}


def _save_rest(
    pair: "_Pair", targets: Targets, file: AdapterFile, how: Extraction
) -> tuple[Described, tuple[str, ...]]:
    """Save what changed and has no factors as it is; return what the config says, and what a reader should know."""
    saved: dict[str, None] = {}
    for module in targets.saved:
        for name in pair.base.source.tensors:
            if not _is_within(name, module) or pair.dtype(name) not in MERGEABLE:
                continue
            for copy in (name, *_tied_names(name, pair)):
                outer = module if copy == name else copy.rpartition(".")[0]
                saved[pair.in_memory(outer)] = None
                file.put(pair.in_memory(copy), pair.model_numbers(name), pair.dtype(name))
    for name in sorted(targets.biases):
        module, _, parameter = name.rpartition(".")
        file.put(f"{pair.in_memory(module)}.base_layer.{parameter}", pair.model_numbers(name), pair.dtype(name))
    hub_name = pair.names[1].partition("@")[0]
    turned = any(place.input_first for place in targets.matrices)
    ties = pair.tie is not None and pair.in_memory(pair.tie.embedding.removesuffix(".weight")) in saved
    bias = "lora_only" if targets.biases else "none"
    described = Described(hub_name, fan_in_fan_out=turned, bias=bias, modules_to_save=tuple(saved), ties_weights=ties)
    lost = [] if how.rest else _left_out(pair, targets)
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    notes = (f"changes of {', '.join(lost[:3])}{more} are left out, as asked",) if lost else ()
    return described, notes


def _left_out(pair: "_Pair", targets: Targets) -> list[str]:
    """List what has changed and gets no factors."""
    adapted = {place.name for place in targets.matrices} | {n for stack in targets.stacks for n in stack.names}
    others = [place for place in pair.places() if place.name not in adapted and pair.dtype(place.name) in MERGEABLE]
    return [place.name for place in others if pair.change(place).any()]


def _tied_names(name: str, pair: _Pair) -> tuple[str, ...]:
    """Return under which other names PEFT wants an embedding, too: its head's, if the base ties the two."""
    tie = pair.tie
    if tie is None or tie.embedding != name:
        return ()
    head = head_name(tie, pair.base.source.config)
    if head is None:
        message = f"'{name}' has changed, which the base ties to a head whose name is not known"
        raise CheckpointError(message, where=pair.names[0], hint="--skip-rest leaves it out")
    return () if head in pair.base.source.tensors else (head,)


def _numbers(source: TensorSource, name: str) -> np.ndarray:
    shape = source.tensors[name].shape
    width = shape[-1] if shape else 1
    count = int(np.prod(shape)) // max(width, 1)
    return read_rows(source, name, 0, count, width).reshape(shape)


def _check(how: Extraction) -> None:
    given = [how.wanted.rank, how.wanted.energy, how.budget]
    if how.wanted.rank is not None and how.wanted.rank < 1:
        raise RecipeError(f"expected a rank of at least 1, found {how.wanted.rank}")
    if how.wanted.energy is not None and not 0 < how.wanted.energy <= 1:
        raise RecipeError(f"expected a part of the energy between 0 and 1, found {how.wanted.energy}")
    if how.budget is not None and how.budget < 1:
        raise RecipeError(f"expected a budget of at least 1 rank, found {how.budget}")
    if given == [None, None, None]:
        raise RecipeError("expected a rank, an energy or a budget of ranks")
    if how.dtype not in NAMES:
        raise RecipeError(f"unknown type '{how.dtype}'", hint=f"there are: {', '.join(NAMES)}")
