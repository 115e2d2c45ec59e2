"""What a recipe's checks need to know of methods, weight rules and modifiers: not their mathematics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cuvee.recipe.setting import Setting


class MethodSchema(Protocol):
    """What a recipe's checks need to know of a method."""

    @property
    def settings(self) -> Mapping[str, Setting]: ...

    @property
    def models(self) -> tuple[int, int | None]: ...

    @property
    def base(self) -> str: ...


class AdditionSchema(Protocol):
    """What a recipe's checks need to know of a weight rule or a modifier."""

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
        """Return the parameters of all methods of mergekit, if the method is one of them; else none."""
        theirs = [self.methods[key] for key in MERGEKIT_METHODS if key in self.methods]
        if not any(method is other for other in theirs):
            return frozenset()
        return frozenset(name for other in theirs for name in other.settings)
