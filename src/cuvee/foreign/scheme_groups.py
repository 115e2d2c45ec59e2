"""The groups of a scheme of compressed-tensors: which settings hold for the weights of a module."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.foreign.schemes import Scheme
from cuvee.structure import is_before_layers

_REGEX = "re:"


def formats_of(scheme: Scheme) -> set[str]:
    """Return how a scheme says that weights are stored, for all of them or by group."""
    formats = {scheme.settings.get("format"), *(group.get("format") for group in _groups(scheme))}
    return {str(format_) for format_ in formats if format_ is not None}


def weights_of(scheme: Scheme, tensor: str, where: str | None) -> Mapping[str, Any]:
    """Return the settings for a tensor's module, as compressed-tensors picks them: by name, pattern, then class.

    Of several patterns the first in the alphabet counts, whatever their order in the config (its `match_targets`).
    Raises CheckpointError where groups for classes of modules say different things.
    """
    module = tensor.rpartition(".")[0]
    groups = _groups(scheme)
    targets: list[tuple[str, Mapping[str, Any]]] = []
    for group in groups:
        targets += [(target, group) for target in _targets(group)]
    for target, group in targets:
        if target == module:
            return _weights(group)
    patterns = {target: group for target, group in targets if target.startswith(_REGEX)}
    for target in sorted(patterns):
        if _matches(target.removeprefix(_REGEX), module, where):
            return _weights(patterns[target])
    for_classes = [group for target, group in targets if _may_be_class_of(tensor, target)]
    of_classes = list(map(_weights, for_classes or groups))
    if any(settings != of_classes[0] for settings in of_classes):
        message = f"several groups of its 'quantization_config' may be those of '{module}', and they differ"
        raise CheckpointError(message, where=where, hint="merge the unquantised model")
    return of_classes[0] if of_classes else {}


def number(settings: Mapping[str, Any], key: str) -> int:
    """Return a whole number of some settings, 0 if they do not state it."""
    value = settings.get(key)
    return value if type(value) is int else 0


def pair(value: Any) -> tuple[int, int] | None:
    """Return two sizes above zero, if that is what is written."""
    if not isinstance(value, list) or list(map(type, value)) != [int, int]:
        return None
    return (value[0], value[1]) if min(value) > 0 else None


def _may_be_class_of(tensor: str, target: str) -> bool:
    """Say whether a target is the name of a class, which begins with a capital, and may be that of a tensor's module.

    The class of a module stands in no file: what comes before the layers is taken for an embedding, all else not.
    """
    if not target[:1].isupper():
        return False
    return target.endswith("Embedding") == is_before_layers(tensor)


def _matches(pattern: str, module: str, where: str | None) -> bool:
    try:
        return re.match(pattern, module) is not None
    except re.error as error:
        raise CheckpointError(f"the pattern {pattern!r} of its 'quantization_config' is none", where=where) from error


def _weights(group: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = group.get("weights")
    return settings if isinstance(settings, dict) else {}


def _targets(group: Mapping[str, Any]) -> Iterator[str]:
    targets = group.get("targets")
    if isinstance(targets, list):
        yield from (target for target in targets if isinstance(target, str))


def _groups(scheme: Scheme) -> list[Mapping[str, Any]]:
    groups = scheme.settings.get("config_groups")
    if not isinstance(groups, dict):
        return []
    return [group for group in groups.values() if isinstance(group, dict)]
