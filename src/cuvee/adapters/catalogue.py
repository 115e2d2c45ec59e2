"""All kinds of adapters besides LoRA: one file each in `kinds/`, and those of installed packages.

A package adds a kind under the entry point `cuvee.adapter_kinds`.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

import cuvee.adapters.kinds
from cuvee.adapters.kind import Kind


@cache
def kinds() -> Mapping[str, Kind]:
    """Return our kinds and those of installed packages, which may not shadow them, by the name that PEFT gives them."""
    by_name = {kind.name: kind for kind in _own_kinds()}
    for point in entry_points(group="cuvee.adapter_kinds"):
        kind = point.load()
        if kind.name in by_name:
            raise ValueError(f"the plug-in {point.value} brings a kind '{kind.name}', which exists already")
        by_name[kind.name] = kind
    return MappingProxyType(by_name)


def _own_kinds() -> Iterator[Kind]:
    package = cuvee.adapters.kinds
    for file in pkgutil.iter_modules(package.__path__):
        kind = vars(importlib.import_module(f"{package.__name__}.{file.name}")).get("KIND")
        if isinstance(kind, Kind):
            yield kind
