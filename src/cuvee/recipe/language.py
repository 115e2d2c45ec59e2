"""The facts about methods, weight rules and modifiers that a recipe's checks need: not their mathematics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cuvee.recipe.setting import Setting


class MethodSchema(Protocol):
    """The facts about a method that a recipe's checks need."""

    @property
    def settings(self) -> Mapping[str, Setting]: ...

    @property
    def models(self) -> tuple[int, int | None]: ...

    @property
    def base(self) -> str: ...


class AdditionSchema(Protocol):
    """The facts about a weight rule or a modifier that a recipe's checks need."""

    @property
    def settings(self) -> Mapping[str, Setting]: ...

    @property
    def on_changes(self) -> bool: ...


Additions = Mapping[str, AdditionSchema]

MERGEKIT_METHODS = (
    "linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "passthrough", "nuslerp",
    "multislerp", "karcher", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "sce", "model_stock",
    "nearswap", "arcee_fusion", "ram", "ramplus_tl",
)  # fmt: skip
"""Methods that mergekit 0.1.5 has under the same key."""


@dataclass(frozen=True)
class Language:
    """All that a recipe can name, by key."""

    methods: Mapping[str, MethodSchema]
    weight_rules: Additions
    modifiers: Additions

    def parameters_elsewhere(self, method: MethodSchema) -> frozenset[str]:
        """Return the parameters of all methods of mergekit, if the method is mergekit's; else none."""
        of_mergekit = [self.methods[key] for key in MERGEKIT_METHODS if key in self.methods]
        if not any(method is other for other in of_mergekit):
            return frozenset()
        return frozenset().union(*(other.settings for other in of_mergekit))
