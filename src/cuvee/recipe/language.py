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


@dataclass(frozen=True)
class Language:
    """All that a recipe can name, by key."""

    methods: Mapping[str, MethodSchema]
    weight_rules: Additions
    modifiers: Additions
