"""Tiny models in memory and in folders."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import MemoryCheckpoint
from cuvee.plan import Plan
from cuvee.recipe.reference import parse_reference
from cuvee.testing import TINY_LLAMA


class Unreadable(MemoryCheckpoint):
    """A checkpoint of which only the headers may be read."""

    def read_into(self, name: str, start: int, out: np.ndarray) -> None:
        raise AssertionError(f"planning read '{name}'")


def layered(layers: int = 3, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """A model with an embedding, a matrix and a norm in each layer, a last norm and a head."""
    names = ["model.embed_tokens.weight"]
    names += [f"model.layers.{i}.{rest}" for i in range(layers) for rest in ("mlp.weight", "norm.weight")]
    shapes = {"norm": (2,), "embed_tokens": (4, 2), "lm_head": (4, 2), "mlp": (2, 2)}
    names += ["model.norm.weight", "lm_head.weight"]
    return {name: np.zeros(shapes[name.split(".")[-2]], dtype) for name in names}


Planner = Callable[..., Plan]


@pytest.fixture
def plan() -> Planner:
    """Plan a recipe over models that are given as arrays; `configs` overrides the three-layer config of some."""

    def make(
        text: str,
        models: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        configs: Mapping[str, dict[str, Any]] | None = None,
    ) -> Plan:
        given = models or {name: layered() for name in ("base", "a", "b", "c")}
        config = {"num_hidden_layers": 3, "torch_dtype": TINY_LLAMA["torch_dtype"]}
        sources = {
            parse_reference(name): Unreadable(arrays, (configs or {}).get(name, config))
            for name, arrays in given.items()
        }
        return cuvee.make_plan(cuvee.recipe_from_text(text), models=sources)

    return make
