"""What the output's config.json says otherwise than the donor's: type, layers, vocabulary, ties."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cuvee.checkpoint.dtypes import WORDS
from cuvee.plan.draft import Draft
from cuvee.plan.outline import Outline
from cuvee.plan.plan import MergeStep
from cuvee.structure import layer_of, stacks

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Where a config.json may have its layer count."""

NOT_BY_LAYER = ("architectures", "bos_token_id", "eos_token_id", "pad_token_id")
"""Lists in a config.json whose length says nothing, even where it is that of the layers."""


def config_changes(
    steps: list[MergeStep], outlines: list[Outline], head_changes: Mapping[str, Any], draft: Draft
) -> dict[str, Any]:
    """Return the keys of the donor's config.json that change, with their new values."""
    config = draft.sources[draft.donor].config
    if not config:
        draft.warnings.append(f"{draft.donor} has no config.json; the output will have none")
        return {}
    written = Counter(step.dtype for step in steps if step.action == "merge")
    changes: dict[str, Any] = {}
    if written:
        word = WORDS[written.most_common(1)[0][0]]
        changes = {key: word for key in ("dtype", "torch_dtype") if key in config} or {"dtype": word}
    if draft.recipe.sliced:
        changes |= _recut(config, outlines, draft)
    changes = with_changes(changes, head_changes, config)
    return with_changes(changes, draft.aligned.vocabulary.config_changes, config)


def _recut(config: dict[str, Any], outlines: list[Outline], draft: Draft) -> dict[str, Any]:
    """Cut what the config says of each layer to the layers of the output, each from the model it comes from."""
    depth = stacks(draft.sources[draft.donor].tensors)[0].depth
    cut = {_position(out): (out.part.sources[0].model, out.source_layer) for out in outlines}
    layers = [(model, layer) for model, layer in cut.values() if layer is not None]
    changes: dict[str, Any] = {key: len(layers) for key in DEPTH_KEYS if config.get(key) == depth}
    if not changes:
        draft.warnings.append(f"config.json has no layer count of {depth} to change; check it")
    for key, value in config.items():
        if isinstance(value, list) and len(value) == depth and key not in NOT_BY_LAYER:
            lists = [(draft.sources[model].config.get(key) or (), layer) for model, layer in layers]
            if all(layer < len(listed) for listed, layer in lists):
                changes[key] = [listed[layer] for listed, layer in lists]
            else:
                draft.warnings.append(f"config.json says '{key}' of each layer, but not in all models; check it")
    return changes


def _position(out: Outline) -> int | None:
    layer = layer_of(out.name) if out.source_layer is not None else None
    return layer.index if layer else None


def with_changes(first: Mapping[str, Any], second: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes of a config together; of a part that both change, each keeps what it changes."""
    result = dict(first)
    for key, value in second.items():
        before, own = result.get(key), config.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and isinstance(own, Mapping):
            value = {**before, **{k: v for k, v in value.items() if k not in own or own[k] != v}}
        result[key] = value
    return result
