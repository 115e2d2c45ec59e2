"""Adapters -> one adapter: a plan over their low-rank changes that the engine runs as it runs any merge.

In the chosen space each adapter is a model, so that every method and setting works as with full models. The result
of a module is compressed as soon as it is merged, and put into the file.
"""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.adapters.adapter import Adapter
from cuvee.adapters.experts import order_in_module
from cuvee.adapters.group import BIAS, TOKENS, Group, Whole, depends_on_base, is_dense
from cuvee.adapters.legacy import LEGACY, mixed_factors
from cuvee.adapters.low_rank import Kept, Product, Wanted, joined
from cuvee.adapters.spaces import InSpace, Merging, Space
from cuvee.adapters.write import AdapterFile, Described
from cuvee.catalogue import language, registry
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import NAMES
from cuvee.checkpoint.stored_file import recorded
from cuvee.engine.adapter_card import Made, ModuleKept, Parent, adapter_card, adapter_record, discarded
from cuvee.engine.arrays import find_method
from cuvee.engine.nothing import put_nothing
from cuvee.engine.options import Options
from cuvee.engine.workers import Workers
from cuvee.errors import CheckpointError, RecipeError, closest
from cuvee.method import Method
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.plan import MergeStep, Plan, make_plan
from cuvee.progress import Progress, Silent
from cuvee.recipe.load import recipe_from_data
from cuvee.recipe.reference import ModelRef

MEANS = ("linear", "geometric_median")
"""Methods whose weights sum to one in the end: the base's own tensors cancel."""


@dataclass(frozen=True)
class AdapterResult:
    """A written adapter: where it is, its digest, the kept part of each module, warnings, and notes on decisions."""

    folder: Path
    digest: str
    modules: tuple[ModuleKept, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def discarded(self) -> float:
        """The part of the energy of all modules together that compression discarded."""
        return discarded(self.modules)


@dataclass(frozen=True)
class How:
    """How adapters are combined. Without `space` it is the space that fits the method; `settings` are the method's.

    `shard_bytes` is the largest size of a file of weights. Without it there is one, as PEFT loads it.
    """

    method: str = "task_arithmetic"
    space: Space | None = None
    wanted: Wanted = field(default_factory=Wanted)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    dtype: str = "float32"
    shard_bytes: int | None = None


def combine(
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    out: Path,
    how: How,
    *,
    base: TensorSource | None = None,
    threads: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AdapterResult:
    """Combine adapters of one base into an adapter, which PEFT loads. Weights are as in the method's own recipe.

    `base` is needed where an adapter holds whole tensors that are not simply averaged. Raises CheckpointError and
    RecipeError that name the tensors that cannot be combined.
    """
    _check(adapters, weights, how)
    group = Group(adapters, base)
    how = _decided(group, how)
    group.stand_in = _cancels_base(weights, how)
    _check_wholes(group, how)
    started = time.perf_counter()
    with (
        AdapterFile(out.absolute(), NAMES[how.dtype], overwrite=overwrite, shard_bytes=how.shard_bytes) as file,
        one_thread_a_matrix(),
    ):
        run = _Run(group, how, file)
        if how.method in LEGACY:
            run.mix(weights)
        else:
            run.merge(weights, threads, progress or Silent())
        run.complete()
        warnings = (*_warnings(group), *run.warnings, *file.doubts())
        modules = tuple(kept for _, kept in sorted(run.kept.items()))
        described = run.described()
        made = Made(_title(how), described, _parents(adapters, weights), modules, warnings, (), file.digest)
        file.finish(described, adapter_card(made), adapter_record(made, _choices(how, weights)))
        return AdapterResult(out, file.digest, modules, warnings, (), time.perf_counter() - started)


def _decided(group: Group, how: How) -> How:
    """Choose the space. Raises RecipeError where changes of any rank do not fit the settings."""
    is_legacy = how.method in LEGACY
    mixes_stacks = is_legacy and bool(group.stacks)
    if group.is_of_low_rank and not mixes_stacks:
        return how if is_legacy else replace(how, space=space_of(how))
    where = next(filter(is_dense, group.adapters), group.adapters[0]).name
    if is_legacy:
        raise RecipeError(f"'{how.method}' mixes factors of modules only, and {where} changes something else besides")
    if how.space not in (None, "dense"):
        message = f"{where} makes changes of any rank, which have no place in the {how.space} space"
        raise RecipeError(message, hint="the dense space has one")
    if how.wanted == Wanted():
        message = f"{where} makes changes of any rank: an adapter that is exact would be larger than the base"
        raise RecipeError(message, hint="--rank or --energy say how much to keep of them; --energy 1 is exact")
    return replace(how, space="dense")


def _cancels_base(weights: Sequence[float], how: How) -> bool:
    """Say whether the result is a mean of the adapters, so that it does not matter from where changes are counted."""
    if how.method == "task_arithmetic":
        return abs(sum(weights) - 1) < 1e-9 or how.settings.get("normalize") is True
    return how.method in MEANS and how.settings.get("normalize", True) is True


def needs_base(adapters: Sequence[Adapter], weights: Sequence[float], how: How) -> bool:
    """Say whether a combination needs the base.

    An adapter holds whole tensors that are not simply averaged, or its change is only known over the base.
    """
    if any(map(depends_on_base, adapters)):
        return True
    group = Group(adapters)
    group.stand_in = _cancels_base(weights, how)
    return how.method not in LEGACY and _needed_of_base(group) is not None


def _needed_of_base(group: Group) -> Whole | None:
    """Return a tensor of which the base's own is needed, if any."""
    changed = [whole for whole in group.wholes if not whole.added]
    if group.stand_in:
        lacking = {whole.name for whole, _ in group.lacking()}
        changed = [whole for whole in changed if whole.name in lacking]
    return changed[0] if changed else None


def space_of(how: How) -> Space:
    """Return the space to merge in: where all give the same, or for matrix methods, the small space; else the plain.

    Element methods depend on the basis; as published they work on the change itself.
    """
    if how.space is not None:
        return how.space
    return "dense" if registry()[how.method].kind == "element" else "core"


class _Run:
    """A combination. State: the kept part of each module so far."""

    def __init__(self, group: Group, how: How, file: AdapterFile) -> None:
        self.group = group
        self.how = how
        self.file = file
        self.kept: dict[str, ModuleKept] = {}
        self.warnings: list[str] = []
        self.stacks = _Stacks(group)
        file.has_bias = any(adapter.config.lora_bias for adapter in group.adapters)

    def merge(self, weights: Sequence[float], threads: int, progress: Progress) -> None:
        """Merge by a method of the registry."""
        space = space_of(self.how)
        done = self._joined(weights, threads, progress) if _is_plain_sum(self.how, space) else frozenset()
        merging = Merging(self.group, space, done)
        if not merging.modules and not self.group.wholes:
            return
        document = self._document(find_method(self.how.method), weights)
        recipe = recipe_from_data(document, language(), source="the combination")
        sources: dict[ModelRef, TensorSource] = {_model(i): InSpace(merging, i) for i in range(len(weights))}
        sources[_BASE] = InSpace(merging, None)
        plan = make_plan(recipe, models={model: sources[model] for model in recipe.models()})
        if space != "dense" or self.group.base is None:
            plan = _without_parts(plan)
        gathered = _Gathered({step.name: step.shape for step in plan.steps})
        wanted = self._wanted(space)
        progress.start("combine", len(plan.steps), "tensors")

        def write(name: str, start: int, data: np.ndarray) -> None:
            merged = gathered.add(name, start, data)
            if merged is not None:
                self._put(name, merged, merging, wanted)
                progress.advance(1)

        Workers(plan, Options(memory_bytes=sys.maxsize, threads=threads)).run_all(write)
        progress.finish()
        self.warnings += [warning for warning in plan.warnings if "config.json" not in warning]

    def _joined(self, weights: Sequence[float], threads: int, progress: Progress) -> frozenset[str]:
        """Put factors side by side where a sum needs all of their ranks; return the modules of which this is so."""
        progress.start("join", len(self.group.modules), "modules")

        def work(module: str) -> str | None:
            products = [delta for delta in self.group.deltas(module) if isinstance(delta, Product)]
            kept = joined(products, weights)
            if kept is not None:
                self._put_kept(module, kept)
            progress.advance(1)
            return None if kept is None else module

        with ThreadPoolExecutor(threads) as pool:
            done = frozenset(module for module in pool.map(work, self.group.modules) if module is not None)
        progress.finish()
        return done

    def mix(self, weights: Sequence[float]) -> None:
        """Mix the factors themselves, as names say that are not of merge methods."""
        for module in self.group.modules:
            product = mixed_factors(self.how.method, self.group, module, weights)
            energy = float(((product.left.T @ product.left) * (product.right @ product.right.T)).sum())
            self.file.put_factors(module, product, embeds=self.group.embeds(module), kernel=self.group.kernel(module))
            self.kept[module] = ModuleKept(module, product.rank, energy, energy)

    def complete(self) -> None:
        """Copy frozen weights that PEFT keeps beside factors; give all modules a bias if any has it, as PEFT asks."""
        for name, (adapter, stored) in self.group.copies.items():
            module, _, parameter = name.rpartition(".")
            kind = adapter.source.tensors[stored].dtype
            self.file.put(f"{module}.base_layer.{parameter}", adapter.read(stored), kind)
        if self.file.has_bias:
            self._complete_biases()
        has_factors = self.file.ranks or self.file.parameters
        if self.group.base is not None and not has_factors:
            put_nothing(self.group.base, self.file)

    def _complete_biases(self) -> None:
        """Put a bias of zeros beside the factors of each module that has none; stacks of experts have no biases."""
        complete = {whole.name.removesuffix(BIAS) for whole in self.group.wholes if whole.added}
        complete.update(chain.from_iterable(self.group.stacks.values()))
        for module in self.group.modules:
            if module not in complete:
                self.file.put(f"{module}.lora_B.bias", np.zeros(self.group.shape(module)[0], np.float32))

    def described(self) -> Described:
        """Return the facts for the config of the combination: settings of any adapter hold for all of it."""
        configs = [adapter.config for adapter in self.group.adapters]
        return Described(
            base=_same([config.base for config in configs]),
            task_type=_same([config.task_type for config in configs]),
            fan_in_fan_out=any(config.fan_in_fan_out for config in configs),
            bias=self._bias(),
            modules_to_save=self._modules_to_save(),
            token_indices=self._token_indices(),
            ties_weights=any(config.ties_weights for config in configs),
        )

    def _modules_to_save(self) -> tuple[str, ...]:
        """List the modules that any adapter saves whole, by its config and by its kind."""
        adapters = self.group.adapters
        modules = list(chain.from_iterable(adapter.config.modules_to_save for adapter in adapters))
        modules += chain.from_iterable(map(_saved_by_kind, adapters))
        return tuple(dict.fromkeys(modules))

    def _token_indices(self) -> dict[str, tuple[int, ...]]:
        """Return the rows of embeddings that adapters hold whole, by module."""
        indices = {}
        for whole in self.group.wholes:
            if whole.rows is not None:
                indices[whole.name.removesuffix(TOKENS)] = whole.rows
        return indices

    def _bias(self) -> str:
        """Return which biases the combination changes, as PEFT's config says it: the most that any adapter does."""
        biases = {adapter.config.bias for adapter in self.group.adapters}
        for most in ("all", "lora_only"):
            if most in biases:
                return most
        has_bias_beside_factors = any(whole.name.endswith(".base_layer.bias") for whole in self.group.wholes)
        return "lora_only" if has_bias_beside_factors else "none"

    def _document(self, method: Method, weights: Sequence[float]) -> dict[str, Any]:
        """Return the recipe of the combination, so that it is checked as every recipe is."""
        models = []
        for i, (adapter, weight) in enumerate(zip(self.group.adapters, weights, strict=True)):
            parameters = {"weight": weight} if "weight" in method.settings else {}
            models.append({"model": str(_model(i)), "name": adapter.name, "parameters": parameters})
        document: dict[str, Any] = {
            "merge_method": method.key,
            "models": models,
            "parameters": dict(self.how.settings),
            "seed": self.how.seed,
            "out_dtype": "float32",
        }
        if method.base in ("delta", "optional"):
            document["base_model"] = str(_BASE)
        if method.base == "endpoint":
            document["base_model"] = str(_model(0))
        return document

    def _wanted(self, space: Space) -> Wanted:
        """A merged dense change has any rank; without a wish it is kept to that of the adapters together."""
        wanted = self.how.wanted
        if space != "dense" or wanted != Wanted():
            return wanted
        return Wanted(rank=max((sum(self.group.ranks(module)) for module in self.group.modules), default=1))

    def _put(self, name: str, merged: np.ndarray, merging: Merging, wanted: Wanted) -> None:
        """Take in a merged tensor: whole tensors as they are, changes compressed."""
        whole = self.group.whole(name)
        if whole is not None:
            if whole.added:
                self.file.put(f"{name.removesuffix(BIAS)}.lora_B.bias", merged)
            else:
                self.file.put(name, self.group.read_base(whole) + merged)
            return
        module = name.removesuffix(".weight")
        self._put_kept(module, merging.lifted(module, merged, wanted))

    def _put_kept(self, module: str, kept: Kept) -> None:
        if self.stacks.has(module):
            self._put_expert(module, kept)
            return
        self.file.put_factors(module, kept.product, embeds=self.group.embeds(module), kernel=self.group.kernel(module))
        self.kept[module] = ModuleKept(module, kept.product.rank, kept.energy, kept.total)

    def _put_expert(self, module: str, kept: Kept) -> None:
        """Take in the change of an expert; the last expert of a stack completes it."""
        complete = self.stacks.add(module, kept)
        if complete is None:
            return
        parameter, experts = complete
        rank = max(1, *(expert.product.rank for expert in experts))
        products = [expert.product for expert in experts]
        self.file.put_stack(parameter, products, rank, self.stacks.depth(parameter))
        energy = sum(expert.energy for expert in experts)
        total = sum(expert.total for expert in experts)
        self.kept[parameter] = ModuleKept(parameter, rank, energy, total)


class _Stacks:
    """Experts that arrive in turn, as PEFT lays their factors."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._parameters: dict[str, str] = {}
        for parameter, modules in group.stacks.items():
            self._parameters |= dict.fromkeys(modules, parameter)
        self._arrived: dict[str, dict[str, Kept]] = {parameter: {} for parameter in group.stacks}
        self._lock = threading.Lock()

    def has(self, module: str) -> bool:
        return module in self._parameters

    def depth(self, parameter: str) -> int:
        """Return how many wrappers PEFT puts around a stack's own: those of the module's later parameters."""
        owner, order = parameter.rpartition(".")[0], order_in_module(parameter)
        others = [other for other in self.group.stacks if other.rpartition(".")[0] == owner]
        return sum(order_in_module(other) > order for other in others)

    def add(self, module: str, kept: Kept) -> tuple[str, list[Kept]] | None:
        """Take in an expert's change; return the parameter with all of its experts once they are there."""
        parameter, product = self._parameters[module], kept.product
        left, right = product.left.astype(np.float32), product.right.astype(np.float32)
        laid = Product(right.T, left.T) if self.group.laid_as_stored(parameter) else Product(left, right)
        with self._lock:
            arrived = self._arrived[parameter]
            arrived[module] = replace(kept, product=laid)
            if len(arrived) < len(self.group.stacks[parameter]):
                return None
            self._arrived[parameter] = {}
        return parameter, [arrived[expert] for expert in self.group.stacks[parameter]]


class _Gathered:
    """Tensors of which bytes arrive piece by piece."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._parts: dict[str, tuple[np.ndarray, int]] = {}

    def add(self, name: str, start: int, data: np.ndarray) -> np.ndarray | None:
        """Take in some bytes of a tensor, and return it once it is complete. One thread works on a tensor."""
        tensor, arrived = self._parts.get(name) or (np.empty(self._shapes[name], np.float32), 0)
        tensor.reshape(-1).view(np.uint8)[start : start + data.size] = data.view(np.uint8)
        if arrived + data.nbytes < tensor.nbytes:
            self._parts[name] = (tensor, arrived + data.nbytes)
            return None
        self._parts.pop(name, None)
        return tensor


_BASE = ModelRef("base")


def _model(position: int) -> ModelRef:
    return ModelRef(f"adapter {position}")


def _without_parts(plan: Plan) -> Plan:
    """Leave matrices whole whose rows are directions, or whose parts nothing tells: no cut of a fused matrix is
    right."""
    return replace(plan, steps=tuple(map(_without_sizes, plan.steps)))


def _without_sizes(step: MergeStep) -> MergeStep:
    if not step.cut:
        return step
    return replace(step, cut=replace(step.cut, sizes=()))


def _is_plain_sum(how: How, space: Space) -> bool:
    """Say whether a combination is the weighted sum of all changes, of which nothing is to be discarded."""
    is_sum = how.method == "task_arithmetic" and not how.settings
    return is_sum and space == "core" and how.wanted == Wanted()


def _title(how: How) -> str:
    return f"by the method `{how.method}`" + ("" if how.space is None else f" in the {how.space} space")


def _choices(how: How, weights: Sequence[float]) -> dict[str, Any]:
    wanted = {"rank": how.wanted.rank, "energy": how.wanted.energy}
    return {
        "method": how.method,
        "space": how.space,
        "weights": list(weights),
        **wanted,
        "settings": dict(how.settings),
    }


def _parents(adapters: Sequence[Adapter], weights: Sequence[float]) -> tuple[Parent, ...]:
    return tuple(
        Parent(adapter.name, f"weight {weight:g}", recorded(adapter.source.files()), adapter.folder)
        for adapter, weight in zip(adapters, weights, strict=True)
    )


def _saved_by_kind(adapter: Adapter) -> list[str]:
    """List the modules that an adapter of another kind than LoRA holds whole, besides its changes."""
    if adapter.config.kind is None:
        return []
    modules = [name.rpartition(".")[0] for name in adapter.full]
    return [module for module in modules if module not in adapter.changes]


def _same(values: Sequence[str | None]) -> str | None:
    """Return the value that all agree on, or else nothing."""
    return values[0] if len(set(values)) == 1 else None


def _check(adapters: Sequence[Adapter], weights: Sequence[float], how: How) -> None:
    if not adapters:
        raise RecipeError("expected at least one adapter, found none")
    if len(weights) != len(adapters):
        raise RecipeError(f"expected a weight for each of {len(adapters)} adapters, found {len(weights)}")
    if not all(np.isfinite(weights)):
        raise RecipeError(f"expected weights that are numbers, found {list(weights)}")
    if how.wanted.rank is not None and how.wanted.rank < 1:
        raise RecipeError(f"expected a rank of at least 1, found {how.wanted.rank}")
    if how.wanted.energy is not None and not 0 < how.wanted.energy <= 1:
        raise RecipeError(f"expected a part of the energy between 0 and 1, found {how.wanted.energy}")
    if how.dtype not in NAMES:
        raise RecipeError(f"unknown type '{how.dtype}'", hint=f"there are: {', '.join(NAMES)}")
    if how.method in LEGACY:
        has_space = how.space is not None or how.wanted != Wanted()
        if has_space or how.settings:
            raise RecipeError(f"'{how.method}' mixes the factors as they are: it has no space, no rank and no settings")
        return
    if how.method not in registry():
        known = [*registry(), *LEGACY]
        guess = closest(how.method, known)
        raise RecipeError(f"unknown method '{how.method}'", hint=f"did you mean '{guess}'?" if guess else None)


def _check_wholes(group: Group, how: How) -> None:
    """Tensors that adapters hold whole are merged as changes of the base's, which must then be there."""
    has_wholes = bool(group.wholes) or bool(group.copies)
    if how.method in LEGACY and has_wholes:
        raise RecipeError(f"'{how.method}' mixes factors only, and an adapter holds whole tensors besides")
    needed = _needed_of_base(group)
    if group.base is None and needed is not None:
        message = f"'{needed.origin}' is held whole by an adapter, and to merge it the base's own is needed"
        raise CheckpointError(message, where=group.adapters[0].name, hint="name the base with --base")
    for name, (adapter, stored) in group.copies.items():
        first = adapter.read(stored)
        for other in group.adapters:
            if name in other.full and not np.array_equal(other.read(other.full[name]), first):
                message = f"the frozen '{name}' is not that of {adapter.name}: they were trained over different bases"
                raise CheckpointError(message, where=other.name)


def _warnings(group: Group) -> list[str]:
    bases = list(dict.fromkeys(adapter.config.base for adapter in group.adapters if adapter.config.base))
    if len(bases) < 2:
        return []
    return [f"the adapters name different bases: {', '.join(bases)}; what they change must be the same weights"]
