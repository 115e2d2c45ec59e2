"""`Materials`: a recipe, its method and its opened models, which planning reads and never changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import RecutCheckpoint
from cuvee.method import Method
from cuvee.plan.names import View
from cuvee.plan.vocabulary import Aligned
from cuvee.recipe.recipe import Recipe, Slice
from cuvee.recipe.reference import ModelRef
from cuvee.statistics import Statistics
from cuvee.tokenizers.rows import AlignedCheckpoint, RowMap


@dataclass(frozen=True)
class Materials:
    """A recipe, its method and its opened models.

    - `aligned`: the opened models, with rows for the same tokens where that was possible.
    - `statistics`: the statistics that the recipe names, by model.
    - `views`: each model's tensors under the donor's names.
    """

    recipe: Recipe
    method: Method
    aligned: Aligned
    statistics: Mapping[ModelRef, Statistics] = field(default_factory=dict)
    views: Mapping[ModelRef, View] = field(default_factory=dict)

    @cached_property
    def models(self) -> tuple[ModelRef, ...]:
        return self.recipe.models()

    @cached_property
    def index(self) -> Mapping[ModelRef, int]:
        """The place of each model in the recipe."""
        return {model: i for i, model in enumerate(self.models)}

    @cached_property
    def sources(self) -> Mapping[ModelRef, TensorSource]:
        return {model.reference: model.source for model in self.aligned.opening.models}

    @cached_property
    def unseen(self) -> Mapping[ModelRef, frozenset[str]]:
        """The tensors of each model whose headers cannot be read."""
        return {model.reference: model.unseen for model in self.aligned.opening.models}

    @property
    def donor(self) -> ModelRef:
        """The model whose names, config and companion files the output has."""
        return self.models[0]

    @property
    def config(self) -> Mapping[str, Any]:
        """The donor's config."""
        return self.sources[self.donor].config

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


def unaligned(source: TensorSource) -> TensorSource:
    """Return a model as it is stored, whatever rows and blocks it is read with."""
    while isinstance(source, AlignedCheckpoint | RecutCheckpoint):
        source = source.source
    return source
