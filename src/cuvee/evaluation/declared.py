"""A config's word on how deep a network is, looked at before the library builds a module for each layer of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuvee.checkpoint import open_checkpoint
from cuvee.errors import EvaluationError

DEPTHS = ("layers", "n_layer", "num_blocks", "depth")
"""How the keys end under which configs have a number of layers."""

DEEP = 1000
"""Layers that are built without asking: some networks use one set of weights for several layers."""


def check_depth(path: Path) -> None:
    """Raise EvaluationError for a folder whose config has more layers than its files have tensors.

    The library would build millions of modules, for hours and in any memory, before it missed a tensor.
    """
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return  # the library says what is wrong with it
    deepest = max(_depths(config), default=0)
    if deepest <= DEEP:
        return
    with open_checkpoint(path) as checkpoint:
        count = len(checkpoint.tensors)
    if deepest > count:
        message = f"the config says that there are {deepest:,.0f} layers, and the files have {count:,} tensors"
        raise EvaluationError(message, where=str(path / "config.json"), hint="put the number that was trained")


def _depths(config: Any) -> Iterator[float]:
    """Yield the numbers of layers of a config and of the configs in it."""
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _depths(value)
        elif isinstance(value, int | float) and key.endswith(DEPTHS):
            yield value
