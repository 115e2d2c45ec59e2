"""`Draft`: a plan in the making, with its models and the problems, warnings and notes so far."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import RecutCheckpoint
from cuvee.errors import CuveeError, several
from cuvee.method import Method
from cuvee.plan.names import View
from cuvee.plan.vocabulary import Aligned
from cuvee.recipe.recipe import Recipe, Slice
from cuvee.recipe.reference import ModelRef
from cuvee.recipe.slips import warnings_of
from cuvee.statistics import Statistics
from cuvee.tokenizers.rows import AlignedCheckpoint, RowMap

MOST_SHOWN = 12
"""Problems in one message; more are counted."""


@dataclass
class Draft:
    """One recipe, its opened models, and the problems, warnings and notes of them.

    - `reported`: tensors of which a problem already speaks.
    - `refused`, `lacking`, `shape_clashes`, `type_clashes`, `mixed`, `decided`: facts of single tensors, which are
      counted and said once in the end.
    - `excused`: names by model that need no complaint, because a rule of the recipe decides about them.
    """

    recipe: Recipe
    method: Method
    aligned: Aligned
    views: Mapping[ModelRef, View] = field(default_factory=dict)
    excused: Mapping[ModelRef, frozenset[str]] = field(default_factory=dict)
    problems: list[CuveeError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reported: set[tuple[ModelRef, str]] = field(default_factory=set)
    refused: dict[str, list[str]] = field(default_factory=dict)
    lacking: Counter[tuple[str, str]] = field(default_factory=Counter)
    shape_clashes: list[CuveeError] = field(default_factory=list)
    type_clashes: list[CuveeError] = field(default_factory=list)
    mixed: dict[str, list[str]] = field(default_factory=dict)
    decided: Counter[str] = field(default_factory=Counter)
    statistics: Mapping[ModelRef, Statistics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        opening = self.aligned.opening
        self.models = self.recipe.models()
        self.sources = {model.reference: model.source for model in opening.models}
        self.unseen = {model.reference: model.unseen for model in opening.models}
        self.index = {model: i for i, model in enumerate(self.models)}
        self.problems += opening.problems
        self.warnings += [*warnings_of(self.recipe.slips), *self.aligned.warnings]
        self.notes += self.aligned.vocabulary.notes

    @property
    def donor(self) -> ModelRef:
        """The model whose names, config and companion files the output has."""
        return self.models[0]

    def base_of(self, part: Slice) -> ModelRef | None:
        return part.base_model or self.recipe.base_model

    def names(self, model: ModelRef) -> list[str]:
        """List a model's tensors, with those whose headers cannot be read."""
        return [*self.views[model].called, *sorted(self.unseen.get(model, ()))]

    def row_map(self, model: ModelRef, tensor: str) -> RowMap | None:
        """Return which rows of a tensor are read: for tokens, or for labels; None if all are, in their order."""
        source = self.sources[model]
        if isinstance(source, AlignedCheckpoint):
            if tensor in source.names:
                return source.rows
            source = source.source
        if not isinstance(source, RecutCheckpoint) or tensor not in source.orders:
            return None
        order = source.orders[tensor]
        is_of_rows = order.axis == 0 and order.blocks == source.tensors[tensor].shape[0]
        return RowMap(np.array(order.order), {}, 0) if is_of_rows else None

    def stored_dtype(self, model: ModelRef, tensor: str) -> str:
        """Return a tensor's type in its file, whatever it is read as; for codes the type that they stand for."""
        source = unaligned(self.sources[model])
        meant: Mapping[str, str] = getattr(source, "meant", {})
        return meant.get(tensor, source.tensors[tensor].dtype)

    def stop_at_problems(self) -> None:
        """Raise the problems noted, with the warnings beside them."""
        if not self.problems:
            return
        shown = self.problems[:MOST_SHOWN]
        error_type = type(shown[0])
        more = len(self.problems) - MOST_SHOWN
        if more > 0:
            shown.append(error_type(f"and {more} more like these"))
        shown += [error_type(f"besides: {note}") for note in (*self.warnings, *self.notes)]
        raise several(shown)


def unaligned(source: TensorSource) -> TensorSource:
    """Return a model as it is stored, whatever rows and blocks it is read with."""
    while isinstance(source, AlignedCheckpoint | RecutCheckpoint):
        source = source.source
    return source
