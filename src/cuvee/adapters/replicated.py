"""A base whose layers are repeated (PEFT's `layer_replication`), as one checkpoint: each copy is a layer of its own.

In PEFT the copies share their weights, so that merging an adapter changes all of them by all adapters. Here each has
its own.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.renamed import Renamed
from cuvee.errors import CheckpointError
from cuvee.structure import layer_of, stacks
from cuvee.structure.config import text_part
from cuvee.structure.expression import ExpressionError
from cuvee.structure.layer_rules import UnwritableError, facts, family_of, rewritten, unexplained


def replicated(base: TensorSource, spans: Sequence[tuple[int, int]], where: str) -> Renamed:
    """Return a base with its layers repeated; `spans` are [first, last) layers of it, one behind the other.

    Raises CheckpointError for layers that the base lacks, and where its config cannot say what each layer then is.
    """
    stack = next(iter(stacks(base.tensors)), None)
    order = list(chain.from_iterable(range(first, last) for first, last in spans))
    depth = stack.depth if stack is not None else 0
    has_layers = bool(order) and max(order) < depth
    if stack is None or not has_layers:
        raise CheckpointError(f"repeats layers {_shown(spans)}, and the base has {depth}", where=where)
    origins: dict[str, str] = {}
    for name in base.tensors:
        layer = layer_of(name)
        if layer is None or layer.prefix != stack.prefix:
            origins[name] = name
            continue
        for index, origin in enumerate(order):
            if origin == layer.index:
                origins[layer.at(index)] = name
    return Renamed(base, origins, {**base.config, **_config_changes(base.config, depth, order, where)})


def _in_order(values: Sequence[Any], order: Sequence[int]) -> list[Any]:
    return [values[layer] for layer in order]


def _config_changes(config: Mapping[str, Any], depth: int, order: Sequence[int], where: str) -> dict[str, Any]:
    """Return the changes after which a config states of each copy what it states of its origin."""
    part = text_part(config)
    own: Mapping[str, Any] = config if part is None else config[part]
    try:
        stated = facts(own, depth)
        unknown = {} if family_of(own).is_known else unexplained(own, depth)
        if stated.refers or unknown:
            reason = ", ".join([*stated.refers, *unknown])
            raise CheckpointError(
                f"repeats layers of a base whose layers differ: its config says {reason}", where=where
            )
        wanted = {fact: _in_order(values, order) for fact, values in stated.values.items()}
        changes = rewritten(own, depth, wanted, len(order))
    except (UnwritableError, ExpressionError) as error:
        message = f"repeats layers of a base whose config cannot say so: {error}"
        raise CheckpointError(message, where=where) from error
    return changes if part is None else {part: {**own, **changes}}


def _shown(spans: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{first} to {last - 1}" for first, last in spans)
