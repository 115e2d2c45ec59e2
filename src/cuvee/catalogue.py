"""All names that a recipe can use: the methods, plug-ins' among them, the weight rules and the modifiers.

Each is one file in `methods/`, `weights/` or `modifiers/`, which is found by its place. An installed package brings
methods of its own under the entry point `cuvee.methods`.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType
from typing import TypeVar

import cuvee.methods
import cuvee.modifiers
import cuvee.weights
from cuvee.addition import Addition
from cuvee.method import Method
from cuvee.recipe.language import Language

_Held = TypeVar("_Held")


def language() -> Language:
    """Return all names that recipes can use: the methods, and the additions to them."""
    return Language(registry(), weight_rules(), modifiers())


@cache
def registry() -> Mapping[str, Method]:
    """Return all methods by key: our own, and those of installed plug-ins, which may not shadow them."""
    methods = {method.key: method for method in _held_in(cuvee.methods, Method)}
    for point in entry_points(group="cuvee.methods"):
        method = point.load()
        if method.key in methods:
            raise ValueError(f"the plug-in {point.value} brings a method '{method.key}', which exists already")
        methods[method.key] = method
    return MappingProxyType(dict(sorted(methods.items())))


@cache
def weight_rules() -> Mapping[str, Addition]:
    """Return all weight rules by key."""
    return _additions_in(cuvee.weights)


@cache
def modifiers() -> Mapping[str, Addition]:
    """Return all modifiers by key."""
    return _additions_in(cuvee.modifiers)


def _additions_in(package: ModuleType) -> Mapping[str, Addition]:
    additions = {addition.key: addition for addition in _held_in(package, Addition)}
    return MappingProxyType(dict(sorted(additions.items())))


def _held_in(package: ModuleType, kind: type[_Held]) -> Iterator[_Held]:
    """Yield what the files of a package hold of a kind."""
    for file in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{file.name}")
        for value in vars(module).values():
            if isinstance(value, kind):
                yield value
