"""Changes from the donor's config.json to the output's: type, layers, vocabulary, ties."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cuvee.checkpoint.dtypes import WORDS
from cuvee.checkpoint.naming import EXPLICIT, is_of_diffusers
from cuvee.plan.materials import Materials
from cuvee.plan.plan import MergeStep, merged_steps


def config_changes(
    steps: Sequence[MergeStep], layer_changes: Mapping[str, Any], head_changes: Mapping[str, Any], materials: Materials
) -> dict[str, Any]:
    """Return the keys of the donor's config.json that change, with their new values; none for a donor without it."""
    config = materials.config
    if not config:
        return {}
    changes = _dtype_changes(steps, config)
    if config.get(EXPLICIT) is not None:
        changes[EXPLICIT] = None  # the output's files have the names that transformers looks for by itself
    changes = with_changes(changes, layer_changes, config)
    changes = with_changes(changes, head_changes, config)
    return with_changes(changes, materials.aligned.vocabulary.config_changes, config)


def _dtype_changes(steps: Sequence[MergeStep], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that state the type of most merged tensors."""
    dtypes = Counter(step.dtype for step in merged_steps(steps))
    if not dtypes:
        return {}
    word = WORDS[dtypes.most_common(1)[0][0]]
    keys = [key for key in ("dtype", "torch_dtype") if key in config]
    if not keys and not is_of_diffusers(config):  # diffusers makes no model of a config with keys it lacks
        keys = ["dtype"]
    return dict.fromkeys(keys, word)


def with_changes(first: Mapping[str, Any], second: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes of a config together; of a sub-config that both change, the second adds only its differences."""
    changes = dict(first)
    for key, value in second.items():
        match changes.get(key), value, config.get(key):
            case Mapping() as before, Mapping() as after, Mapping() as own:
                changes[key] = {**before, **differing(after, own)}
            case _:
                changes[key] = value
    return changes


def differing(values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    differing = {}
    for key, value in values.items():
        if key not in own or own[key] != value:
            differing[key] = value
    return differing
