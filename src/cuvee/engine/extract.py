"""A fine-tuned model minus its base -> a LoRA adapter: the best of its rank for each matrix, the rest as it is."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cuvee.adapters.heads import head_name
from cuvee.adapters.low_rank import Kept, Product, Wanted, compressed, singular
from cuvee.adapters.write import AdapterFile, Described
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES
from cuvee.checkpoint.folders import refuse_sub_folders
from cuvee.checkpoint.stored_file import recorded
from cuvee.engine.adapter_card import Made, ModuleKept, Parent, adapter_card, adapter_record
from cuvee.engine.combine import AdapterResult
from cuvee.engine.extract_targets import Stack, Targets, becomes_parameter, chosen_targets, is_within
from cuvee.engine.model_pair import Pair
from cuvee.engine.model_parts import Parts
from cuvee.engine.nothing import put_nothing
from cuvee.errors import CheckpointError, RecipeError
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.progress import Progress, Silent
from cuvee.structure import TensorPlace


@dataclass(frozen=True)
class Extraction:
    """How much to extract: a rank for each matrix, a part of its energy, or a `budget` of ranks for all together.

    A budget is given to the strongest directions of the whole model. With `embeddings` those and heads get factors,
    too, unless the base ties them; otherwise, if they have changed, they are saved whole as everything that is no
    matrix is, unless `rest` is false. `only` and `without` choose parts of the model: see `Parts`.
    `shard_bytes` is the largest size of a file of weights; without it there is one, as PEFT loads it.
    """

    wanted: Wanted = field(default_factory=lambda: Wanted(rank=16))
    budget: int | None = None
    embeddings: bool = False
    rest: bool = True
    dtype: str = "float32"
    parts: Parts = field(default_factory=Parts)
    shard_bytes: int | None = None


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
    pair = Pair(base, model, names, how.parts)
    with (
        AdapterFile(out.absolute(), NAMES[how.dtype], overwrite=overwrite, shard_bytes=how.shard_bytes) as file,
        one_thread_a_matrix(),
    ):
        targets = chosen_targets(pair, embeddings=how.embeddings, rest=how.rest)
        matrices = [place for place in targets.matrices if pair.parts.has(place)]
        ranks = _shared_out(pair, matrices, how.budget, threads) if how.budget is not None else {}
        heard.start("extract", len(matrices), "matrices")
        kept: dict[str, ModuleKept] = {}
        for place, found in _decomposed(pair, matrices, how, ranks, threads):
            module = place.name.removesuffix(".weight")
            if found is not None:
                kept[module] = ModuleKept(module, found.product.rank, found.energy, found.total)
                _put_matrix(pair, place, found.product, file)
            heard.advance(1)
        for stack in targets.stacks:
            kept |= _put_stack(pair, stack, targets.depth(stack), how, file)
        heard.finish()
        has_factors = bool(file.ranks or file.parameters)
        if not has_factors and not targets.has_wholes:
            raise CheckpointError("the two models are equal: there is nothing to extract", where=names[0])
        carrier = None if has_factors else put_nothing(base, file, targets.saved)
        described, notes = _save_rest(pair, targets, file, carrier)
        modules = tuple(kept[module] for module in sorted(kept))
        parents = (
            Parent(names[0], "the fine-tuned model", recorded(model.files()), model.place),
            Parent(names[1], "its base", recorded(base.files()), base.place),
        )
        how_made, warnings = "by extracting the difference of two models", file.doubts()
        made = Made(how_made, described, parents, modules, warnings, notes, file.digest)
        file.finish(
            described, adapter_card(made), adapter_record(made, {"method": "extract", "rank_budget": how.budget})
        )
    return AdapterResult(out, made.digest, modules, warnings, notes, time.perf_counter() - started)


def _put_matrix(pair: Pair, place: TensorPlace, product: Product, file: AdapterFile) -> None:
    module = pair.in_memory(place.name.removesuffix(".weight"))
    if not product.rank:
        return
    if becomes_parameter(module, pair):
        file.put_stack(f"{module}.weight", [product], product.rank, 0)
    else:
        file.put_factors(module, product, embeds=place.role == "embedding")


def _put_stack(pair: Pair, stack: Stack, depth: int, how: Extraction, file: AdapterFile) -> dict[str, ModuleKept]:
    """Write the factors of a stack, of the same rank for all experts; return the kept part."""
    if how.budget is not None:
        raise RecipeError("a budget of ranks cannot be shared out over stacks of experts", hint="give --rank instead")
    products: list[Product] = []
    energy = total = 0.0
    shape = (0, 0)
    for change in stack.changes(pair):
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
    pair: Pair, places: Sequence[TensorPlace], how: Extraction, ranks: Mapping[str, int], threads: int
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


def _shared_out(pair: Pair, places: Sequence[TensorPlace], budget: int, threads: int) -> dict[str, int]:
    """Share a budget of ranks out: to the directions of the whole model that have most energy."""

    def work(place: TensorPlace) -> np.ndarray:
        return singular(pair.change(place))[1][:budget]

    with ThreadPoolExecutor(threads) as pool:
        values = list(pool.map(work, places))
    owners = np.repeat(np.arange(len(places)), [len(found) for found in values])
    strongest = np.argsort(-np.concatenate([*values, np.zeros(0)]), kind="stable")[:budget]
    return {place.name: int((owners[strongest] == i).sum()) for i, place in enumerate(places)}


def _save_rest(
    pair: Pair, targets: Targets, file: AdapterFile, carrier: str | None
) -> tuple[Described, tuple[str, ...]]:
    """Save changed tensors without factors as they are; return the facts for the config, and warnings.

    A saved module that carries factors of nothing is the matrix below these instead.
    """
    saved: dict[str, None] = {}
    loaded = {name: pair.in_memory(name) for name in pair.base.source.tensors}
    for module in targets.saved:
        for name in loaded:
            inside = is_within(name, module) or is_within(loaded[name], pair.in_memory(module))
            if not inside or pair.dtype(name) not in MERGEABLE:
                continue
            if module == carrier:
                file.put(f"{pair.in_memory(module)}.base_layer.weight", pair.numbers(name), pair.dtype(name))
                continue
            for copy in (name, *_tied_names(name, pair)):
                outer = module if copy == name else copy.rpartition(".")[0]
                saved[pair.in_memory(outer)] = None
                file.put(pair.in_memory(copy), pair.numbers(name), pair.dtype(name))
    ties = False
    if pair.tie is not None and pair.head is None:
        ties = pair.in_memory(pair.tie.embedding.removesuffix(".weight")) in saved
    if targets.head is not None:
        saved[pair.in_memory(targets.head.removesuffix(".weight"))] = None
        file.put(pair.in_memory(targets.head), pair.numbers(targets.head), pair.dtype(targets.head))
    for name in targets.replaced:
        file.put(pair.in_memory(name), pair.numbers(name), pair.dtype(name))
    for name in sorted(targets.biases):
        module, _, parameter = name.rpartition(".")
        file.put(f"{pair.in_memory(module)}.base_layer.{parameter}", pair.numbers(name), pair.dtype(name))
    hub_name = pair.names[1].partition("@")[0]
    turned = any(place.input_first for place in targets.matrices)
    bias = "lora_only" if targets.biases else "none"
    described = Described(hub_name, fan_in_fan_out=turned, bias=bias, modules_to_save=tuple(saved), ties_weights=ties)
    return described, _left_out(pair, targets)


def _left_out(pair: Pair, targets: Targets) -> tuple[str, ...]:
    """Name the changes that the adapter lacks, as asked, and say how much of the whole change they are."""
    changed = [place for place in pair.places() if pair.energy(place) > 0]
    lost = []
    for place in changed:
        is_held = pair.parts.has(place) and targets.holds(place.name)
        if not is_held:
            lost.append(place)
    if not lost:
        return ()
    share = sum(map(pair.energy, lost)) / sum(map(pair.energy, changed))
    shown = ", ".join(place.name for place in lost[:3])
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return (f"changes of {shown}{more} are left out, as asked: {share:.2%} of the energy of all changes",)


def _tied_names(name: str, pair: Pair) -> tuple[str, ...]:
    """Return under which other names PEFT wants an embedding, too: its head's, if the base ties the two."""
    tie = pair.tie
    is_tied = tie is not None and tie.embedding == name
    if tie is None or not is_tied or pair.head is not None:
        return ()
    head = head_name(tie, pair.base.source.config)
    if head is None or head in pair.base.source.tensors:
        return ()
    return (head,)


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
