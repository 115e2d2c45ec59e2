"""A fine-tuned model minus its base -> a LoRA adapter: the best of its rank for each matrix, the rest as it is."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cuvee.adapters.adapted import read_rows
from cuvee.adapters.low_rank import Kept, Wanted, compressed, singular
from cuvee.adapters.places import head_name
from cuvee.adapters.write import AdapterFile, Described
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES
from cuvee.checkpoint.folders import refuse_sub_folders
from cuvee.checkpoint.stored_file import recorded
from cuvee.engine.adapter_card import Made, ModuleKept, Parent, adapter_card, adapter_record
from cuvee.engine.combine import AdapterResult
from cuvee.errors import CheckpointError, CuveeError, RecipeError, several
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.plan.names import View, view_as, view_of
from cuvee.progress import Progress, Silent
from cuvee.structure import TensorPlace

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
        matrices = [place for place in pair.places() if _is_matrix(place, pair, how)]
        ranks = _shared_out(pair, matrices, how.budget, threads) if how.budget is not None else {}
        heard.start("extract", len(matrices), "matrices")
        kept: dict[str, ModuleKept] = {}
        for place, found in _decomposed(pair, matrices, how, ranks, threads):
            module = place.name.removesuffix(".weight")
            if found is not None:
                kept[module] = ModuleKept(module, found.product.rank, found.energy, found.total)
                if found.product.rank:
                    file.put_factors(module, found.product, embeds=place.role == "embedding")
            heard.advance(1)
        heard.finish()
        described, notes = _save_rest(pair, {place.name for place in matrices}, file, how)
        if not file.ranks and not described.modules_to_save:
            raise CheckpointError("the two models are equal: there is nothing to extract", where=names[0])
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


def _is_matrix(place: TensorPlace, pair: _Pair, how: Extraction) -> bool:
    """Say whether a tensor gets factors: weights of linear maps, of embeddings and heads if asked for."""
    roles = ("linear", "router", "embedding", "head") if how.embeddings and pair.tie is None else ("linear", "router")
    spec = pair.base.source.tensors[place.name]
    return len(spec.shape) == 2 and place.role in roles and place.name.endswith(".weight")


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
    pair: _Pair, matrices: set[str], file: AdapterFile, how: Extraction
) -> tuple[Described, tuple[str, ...]]:
    """Save what changed and has no factors as it is; return what the config says, and what a reader should know."""
    saved: dict[str, None] = {}
    lost: list[str] = []
    bias = "none"
    for place in pair.places():
        name = place.name
        if name in matrices or pair.dtype(name) not in MERGEABLE or not pair.change(place).any():
            continue
        if not how.rest:
            lost.append(name)
            continue
        module, _, parameter = name.rpartition(".")
        if module in file.ranks:
            bias = "lora_only"
            file.put(f"{module}.base_layer.{parameter}", pair.model_numbers(name), pair.dtype(name))
        else:
            for copy in (name, *_tied_names(name, pair)):
                saved[copy.rpartition(".")[0]] = None
                file.put(copy, pair.model_numbers(name), pair.dtype(name))
    hub_name = pair.names[1].partition("@")[0]
    turned = any(place.input_first for place in pair.places() if place.name in matrices)
    ties = pair.tie is not None and pair.tie.embedding.removesuffix(".weight") in saved
    described = Described(hub_name, fan_in_fan_out=turned, bias=bias, modules_to_save=tuple(saved), ties_weights=ties)
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    notes = (f"changes of {', '.join(lost[:3])}{more} are left out, as asked",) if lost else ()
    return described, notes


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
