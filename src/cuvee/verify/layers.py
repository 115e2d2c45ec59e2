"""Checks that each layer of a written model is of its source's kind: its window, its experts, its recurrence.

By the rules of the family first. Then by transformers, if it is there: it builds the model and its parents without
numbers, on the meta device, and differences between two layers show in their modules, whatever the family.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.plan import Plan
from cuvee.structure import depth_said, layer_of, stacks, text_config, text_part
from cuvee.structure.expression import ExpressionError
from cuvee.structure.layer_rules import facts
from cuvee.verify.load import Found

MOST_SHOWN = 3
_PLAIN = (int, float, str, bool, type(None))
_OWN_NUMBER = ("layer_idx", "layer_id", "layer_index", "layer_number", "block_idx")


@dataclass(frozen=True)
class _Model:
    """A model's layers: the config that speaks of them, and the facts of each, by rules or by its modules."""

    folder: Path
    kinds: list[dict[str, Any]]


def layers(folder: Path, plan: Plan) -> Found:
    """Compare the kinds of the layers of a written model with those of the layers that they come from."""
    if plan.making is not None:
        return "layers", "skipped", "its layers are of kinds that no parent has"
    places = dict(zip(map(str, plan.models), plan.places, strict=True))
    pairs = _sources(plan)
    if not pairs:
        return "layers", "skipped", "the model has no stack of layers, or several"
    if any(places[model] is None for model, _ in pairs):
        return "layers", "skipped", "parents are on a hub"
    folders = {model: Path(str(places[model])) for model, _ in pairs}
    how = ["the rules of its family"]
    try:
        wrong = list(_differences(_by_rules(folder), {m: _by_rules(place) for m, place in folders.items()}, pairs))
        built = None if wrong else _by_modules(folder)
        if built is not None:
            parents = {model: _by_modules(place) or [] for model, place in folders.items()}
            wrong = list(_differences(built, parents, pairs))
            how.append("transformers")
    except ExpressionError as error:
        return "layers", "failed", f"config.json does not fit its family: {error}"
    except FileNotFoundError:
        return "layers", "skipped", "there is no config.json"
    except (ValueError, KeyError, OSError) as error:
        return "layers", "skipped", f"configs cannot be compared: {error.args[0] if error.args else error!r}"
    if wrong:
        more = f" and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
        return "layers", "failed", "; ".join(wrong[:MOST_SHOWN]) + more
    return "layers", "passed", f"{len(pairs)} layers are of the kinds of their sources, by {' and '.join(how)}"


def _sources(plan: Plan) -> list[tuple[str, int]]:
    """Return for each layer of the output the model and the layer that it comes from."""
    if plan.stack_cut is not None:
        return [(str(model), layer) for ((model, layer), *_) in plan.stack_cut.layers]
    names = [step.name for step in plan.steps]
    deep = [stack for stack in stacks(names) if stack.depth > 1]
    if len(deep) != 1:
        return []
    stored = deep[0].depth
    depth = depth_said(text_config(plan.sources[plan.donor].config)) or stored
    donor = str(plan.models[plan.donor])
    return [(donor, layer) for layer in range(min(depth, stored))]


def _differences(
    written: list[dict[str, Any]], parents: Mapping[str, list[dict[str, Any]]], pairs: list[tuple[str, int]]
) -> Iterator[str]:
    if len(written) < len(pairs):
        yield f"the config says {len(written)} layers, expected {len(pairs)}"
        return
    for place, (model, layer) in enumerate(pairs):
        own, theirs = written[place], parents[model][layer]
        for key in own.keys() | theirs.keys():
            if own.get(key) != theirs.get(key):
                message = f"layer {place} has {key} {own.get(key)}, its source, layer {layer} of {model}, has"
                yield f"{message} {theirs.get(key)}"


def _by_rules(folder: Path) -> list[dict[str, Any]]:
    config = _config(folder)
    part = text_part(config)
    own = config if part is None else config[part]
    depth = depth_said(own)
    if depth is None:
        raise KeyError("config.json says no number of layers")
    known = facts(own, depth)
    return [known.of(layer) for layer in range(depth)]


def _config(folder: Path) -> dict[str, Any]:
    place = folder if folder.is_dir() else folder.parent
    config: dict[str, Any] = json.loads((place / "config.json").read_text(encoding="utf-8"))
    return config


def _by_modules(folder: Path) -> list[dict[str, Any]] | None:
    """Build a model without numbers; return the plain attributes and the shapes of each layer. None if that fails."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    named = str((_config(folder).get("architectures") or [""])[0])
    kind = getattr(transformers, named, None)
    if kind is None:
        return None
    place = folder if folder.is_dir() else folder.parent
    try:
        config = kind.config_class.from_pretrained(place, local_files_only=True)
        with torch.device("meta"):
            network = kind(config)
    except Exception:  # noqa: BLE001  # a family that cannot be built so is checked when it is loaded
        return None
    names = list(network.state_dict())
    prefix = stacks(names)[0].prefix
    layers = filter(None, map(layer_of, names))
    depth = 1 + max(layer.index for layer in layers if layer.prefix == prefix)
    return [_attributes(network.get_submodule(f"{prefix}.{index}")) for index in range(depth)]


def _attributes(layer: Any) -> dict[str, Any]:
    """Return the plain attributes of a layer's modules, but for the number of the layer, and its tensors' shapes."""
    attributes: dict[str, Any] = {}
    for path, module in layer.named_modules():
        attributes[f"{path} kind".strip()] = type(module).__name__
        for key, value in vars(module).items():
            is_private = key.startswith("_") or key in _OWN_NUMBER
            if isinstance(value, _PLAIN) and not is_private:
                attributes[f"{path}.{key}".strip(".")] = value
    for name, tensor in layer.state_dict().items():
        attributes[f"shape of {name}"] = tuple(tensor.shape)
    return attributes
