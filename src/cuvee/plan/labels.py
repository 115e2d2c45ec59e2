"""Classifiers that name the same labels in another order get one order; those of other labels are refused.

The output has the donor's config.json and with it the donor's labels: row 3 of every model's head must mean the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import BlockOrder, RecutCheckpoint
from cuvee.errors import CheckpointError, CuveeError
from cuvee.plan.cut import sliced
from cuvee.plan.resolve import Opening
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.structure.labels import are_named, labels_of, order_of
from cuvee.structure.task_heads import has_tokens, task_head

MOST_SHOWN = 5
"""Labels in a message."""

Orders = Mapping[str, BlockOrder]
"""For tensors by name the order in which their rows are read."""


@dataclass(frozen=True)
class Labelled:
    """The models, their heads in one order of labels, and what was done for that."""

    opening: Opening
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def with_one_order(recipe: Recipe, opening: Opening) -> Labelled:
    """Return the models with the rows of their heads in the order of the donor's labels.

    If the donor does not name them the first model that does decides. A head that the recipe takes from one model
    brings its labels with it.
    """
    models = dict(zip(recipe.models(), opening.sources, strict=True))
    classifiers = {model: source for model, source in models.items() if _is_used(model, recipe) and _heads(source)}
    donor = recipe.models()[0]
    named = [m for m in dict.fromkeys([donor, *classifiers]) if are_named(labels_of(models[m].config))]
    if recipe.head is not None or not classifiers or not named:
        return Labelled(opening)
    orders: dict[ModelRef, Orders] = {}
    notes: list[str] = []
    problems: list[CuveeError] = []
    wanted = labels_of(models[named[0]].config)
    for model, source in classifiers.items():
        if model not in named:
            notes.append(f"{model} does not name its labels: they are taken to be those of {named[0]}, in its order")
            continue
        try:
            orders[model] = _orders(source, wanted, str(named[0]), sliced=recipe.sliced)
        except CheckpointError as error:
            problems.append(CheckpointError(error.message, where=str(model), hint=error.hint))
            continue
        for head in dict.fromkeys(name.rpartition(".")[0] for name in orders[model]):
            order = f"the order of the labels of {named[0]}: {_shown(wanted)}"
            notes.append(f"the rows of '{head}' in {model} are put in {order}")
    sources = tuple(_reordered(source, orders.get(model, {})) for model, source in models.items())
    opening = replace(opening, sources=sources, problems=(*opening.problems, *problems))
    return Labelled(opening, tuple(notes), _of_other_problems(classifiers))


def _is_used(model: ModelRef, recipe: Recipe) -> bool:
    """Say whether a model's head gets into the output: of slices that of the last one does."""
    if not recipe.sliced:
        return True
    last = sliced(recipe)[-1]
    return model in (*(source.model for source in last.sources), last.base_model or recipe.base_model)


def _heads(source: TensorSource) -> list[str]:
    """List the tensors of a model's classifier."""
    tokens = has_tokens(source.config)
    return [name for name in source.tensors if task_head(name, has_tokens=tokens) is not None]


def _orders(source: TensorSource, wanted: tuple[str, ...], named: str, *, sliced: bool) -> Orders:
    """Return how rows are read to be in the order of the wanted labels. Raises CheckpointError for other labels.

    A head has a row for each label, and some have one more, for "nothing".
    """
    labels = labels_of(source.config)
    shapes = {name: source.tensors[name].shape for name in _heads(source)}
    rows = {name: shape[0] for name, shape in shapes.items() if shape and shape[0] - len(labels) in (0, 1)}
    if not rows or len(labels) != len(wanted):
        return {}  # heads of other sizes: their shapes say so
    order = order_of(labels, wanted)
    if order is None:
        message = f"its labels are {_shown(labels)}, and those of {named} are {_shown(wanted)}"
        hint = "`head: base`, or `head: MODEL`, takes such heads, and their labels, from one model"
        raise CheckpointError(message, hint="end with layers of one of them" if sliced else hint)
    if order == tuple(range(len(labels))):
        return {}
    layers = dict.fromkeys(name.rpartition(".")[0] for name in rows)
    if len(layers) > 1:
        message = f"its labels are in another order than those of {named}, and more than one layer may have their rows"
        raise CheckpointError(f"{message}: {', '.join(layers)}", hint="save it with its labels in that order")
    longer = (*order, len(order))
    return {name: BlockOrder(0, count, order if count == len(order) else longer) for name, count in rows.items()}


def _reordered(source: TensorSource, orders: Orders) -> TensorSource:
    if not orders:
        return source
    if isinstance(source, RecutCheckpoint):
        return RecutCheckpoint(source.source, {**source.orders, **orders})
    return RecutCheckpoint(source, orders)


def _of_other_problems(classifiers: Mapping[ModelRef, TensorSource]) -> tuple[str, ...]:
    """Warn of heads whose outputs mean something else: one label of several, several at once, or an amount."""
    kinds = {model: source.config.get("problem_type") for model, source in classifiers.items()}
    stated = {model: kind for model, kind in kinds.items() if kind is not None}
    if len(set(stated.values())) < 2:
        return ()
    return (f"classifiers of other kinds: problem_type is {', '.join(f'{k} in {m}' for m, k in stated.items())}",)


def _shown(labels: tuple[str, ...]) -> str:
    more = f", ... ({len(labels)} in all)" if len(labels) > MOST_SHOWN else ""
    return ", ".join(labels[:MOST_SHOWN]) + more
