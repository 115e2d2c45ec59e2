"""Classifiers that name the same labels in another order get the donor's order; other labels are refused.

The output has the donor's config.json and with it the donor's labels: row 3 of every model's head must mean the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import BlockOrder, RecutCheckpoint
from cuvee.errors import CheckpointError, CuveeError
from cuvee.plan.cut import sliced
from cuvee.plan.resolve import OpenedModel, Opening
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
    """The models with their heads in the same order of labels, and the sentences about heads that were changed."""

    opening: Opening
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def with_one_order(recipe: Recipe, opening: Opening) -> Labelled:
    """Return the models with the rows of their heads in the order of the donor's labels.

    If the donor does not name them, the first model that does decides. A head that the recipe takes from a single
    model brings its labels with it.
    """
    used = [model for model in opening.models if _is_used(model.reference, recipe)]
    classifiers = [model for model in used if _heads(model.source)]
    naming = _naming(opening.models[0], classifiers) if classifiers else []
    if recipe.head is not None or not naming:
        return Labelled(opening)
    first = naming[0].reference
    wanted = labels_of(naming[0].source.config)
    orders: dict[ModelRef, Orders] = {}
    notes: list[str] = []
    problems: list[CuveeError] = []
    for model in classifiers:
        if model not in naming:
            notes.append(
                f"{model.reference} does not name its labels: they are taken to be those of {first}, in its order"
            )
            continue
        try:
            own = _orders(model.source, wanted, str(first), sliced=recipe.sliced)
        except CheckpointError as error:
            problems.append(CheckpointError(error.message, where=str(model.reference), hint=error.hint))
            continue
        orders[model.reference] = own
        for head in dict.fromkeys(map(_module, own)):
            order = f"the order of the labels of {first}: {_shown(wanted)}"
            notes.append(f"the rows of '{head}' in {model.reference} are put in {order}")
    sources = [_reordered(model.source, orders.get(model.reference, {})) for model in opening.models]
    opening = opening.with_sources(sources).with_problems(*problems)
    return Labelled(opening, tuple(notes), _of_other_problems(classifiers))


def _naming(donor: OpenedModel, classifiers: Sequence[OpenedModel]) -> list[OpenedModel]:
    """Return the models that name their labels, the donor first."""
    models = [donor, *(model for model in classifiers if model is not donor)]
    return [model for model in models if are_named(labels_of(model.source.config))]


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _is_used(model: ModelRef, recipe: Recipe) -> bool:
    """Say whether a model's head gets into the output: with slices, the heads of the last slice do."""
    if not recipe.sliced:
        return True
    last = sliced(recipe)[-1]
    base = last.base_model or recipe.base_model
    return model in [base, *(source.model for source in last.sources)]


def _heads(source: TensorSource) -> list[str]:
    """List the tensors of a model's classifier."""
    tokens = has_tokens(source.config)
    return [name for name in source.tensors if task_head(name, has_tokens=tokens) is not None]


def _orders(source: TensorSource, wanted: tuple[str, ...], first: str, *, sliced: bool) -> Orders:
    """Return how rows are read to be in the order of the wanted labels. Raises CheckpointError for other labels."""
    labels = labels_of(source.config)
    rows = _rows(source, len(labels))
    if not rows or len(labels) != len(wanted):
        return {}  # heads of other sizes: their shapes say so
    order = order_of(labels, wanted)
    if order is None:
        message = f"its labels are {_shown(labels)}, and those of {first} are {_shown(wanted)}"
        hint = "`head: base`, or `head: MODEL`, takes such heads, and their labels, from one model"
        raise CheckpointError(message, hint="end with layers of one of them" if sliced else hint)
    if order == tuple(range(len(labels))):
        return {}
    modules = dict.fromkeys(map(_module, rows))
    if len(modules) > 1:
        message = f"its labels are in another order than those of {first}, and more than one layer may have their rows"
        raise CheckpointError(f"{message}: {', '.join(modules)}", hint="save it with its labels in that order")
    with_nothing = (*order, len(order))
    orders = {}
    for name, count in rows.items():
        orders[name] = BlockOrder(0, count, order if count == len(order) else with_nothing)
    return orders


def _rows(source: TensorSource, labels: int) -> dict[str, int]:
    """Return the rows of the tensors of a model's head that have a row for each label; some have another, "nothing"."""
    rows = {}
    for name in _heads(source):
        shape = source.tensors[name].shape
        if shape and shape[0] in (labels, labels + 1):
            rows[name] = shape[0]
    return rows


def _reordered(source: TensorSource, orders: Orders) -> TensorSource:
    if not orders:
        return source
    if isinstance(source, RecutCheckpoint):
        return RecutCheckpoint(source.source, {**source.orders, **orders})
    return RecutCheckpoint(source, orders)


def _of_other_problems(classifiers: Sequence[OpenedModel]) -> tuple[str, ...]:
    """Warn of heads whose outputs mean something else: a label of several, several at once, or an amount."""
    stated = {}
    for model in classifiers:
        problem_type = model.source.config.get("problem_type")
        if problem_type is not None:
            stated[model.reference] = problem_type
    if len(set(stated.values())) < 2:
        return ()
    listed = ", ".join(f"{problem_type} in {model}" for model, problem_type in stated.items())
    return (f"classifiers of other kinds: problem_type is {listed}",)


def _shown(labels: tuple[str, ...]) -> str:
    more = f", ... ({len(labels)} in all)" if len(labels) > MOST_SHOWN else ""
    return ", ".join(labels[:MOST_SHOWN]) + more
