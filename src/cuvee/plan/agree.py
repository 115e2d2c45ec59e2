"""Whether the tensors of two models are the same by name, said shortly where they are not."""

from collections.abc import Mapping, Sequence

from cuvee.errors import CheckpointError, CuveeError, closest
from cuvee.structure import layer_of, predicts_ahead, stacks
from cuvee.structure.task_heads import task_head

MOST_NAMED = 3
"""Tensors named for a model; more are counted."""


def name_problems(
    expected_of: str, expected: Sequence[str], model: str, names: Sequence[str]
) -> tuple[list[str], list[CuveeError]]:
    """Return the expected tensors that `model` lacks, and the problems of missing and of surplus tensors."""
    own, wanted = set(names), set(expected)
    missing = [name for name in expected if name not in own]
    surplus = [name for name in names if name not in wanted]
    uneven = _uneven_stacks(expected, names)
    problems: list[CuveeError] = []
    for prefix, (depth, own_depth) in uneven.items():
        message = f"has {own_depth} layers in '{prefix}', and {expected_of} has {depth}"
        hint = "merge layers of your choice with 'slices'"
        problems.append(CheckpointError(message, where=model, hint=hint))
    # The problems above speak of tensors behind the layers that both models have.
    loose = [name for name in missing if not _is_beyond(name, uneven)]
    spare = [name for name in surplus if not _is_beyond(name, uneven)]
    for name in loose[:MOST_NAMED]:
        problems.append(_lacks(name, expected_of, model, closest(name, spare)))
    if len(loose) > MOST_NAMED:
        problems.append(CheckpointError(f"lacks {len(loose)} tensors of {expected_of} in all", where=model))
    if not loose:
        for name in spare[:MOST_NAMED]:
            message = f"has a tensor '{name}', which {expected_of} lacks: it would be lost"
            problems.append(CheckpointError(message, where=model, hint=_way_out(name)))
    return missing, problems


def _uneven_stacks(first: Sequence[str], second: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the depths in two models of each stack that both have, where they differ."""
    depths, others = _depths(first), _depths(second)
    uneven = {}
    for prefix, depth in depths.items():
        if prefix in others and others[prefix] != depth:
            uneven[prefix] = (depth, others[prefix])
    return uneven


def _lacks(name: str, expected_of: str, model: str, guess: str | None) -> CheckpointError:
    hint = _way_out(name)
    if guess:
        hint = f"did you mean '{guess}'? Else {hint}"
    return CheckpointError(f"has no tensor '{name}', which {expected_of} has", where=model, hint=hint)


def _way_out(name: str) -> str:
    """Name the keys of a recipe that decide about a tensor that only some models have."""
    ways = "`missing: base` goes by the base model, or else the first; `missing: skip` by the models that have it"
    if predicts_ahead(name):
        return f"`mtp: MODEL` takes what predicts ahead from a model, `mtp: drop` leaves it out; {ways}"
    if task_head(name) is not None:
        return f"`head: MODEL` takes such heads from one model; {ways}"
    return ways


def few(clashes: Sequence[CuveeError], kind: str) -> list[CuveeError]:
    """Return the first clashes, and a problem that counts the others."""
    problems = list(clashes[:MOST_NAMED])
    if len(clashes) > MOST_NAMED:
        problems.append(CheckpointError(f"and {len(clashes) - MOST_NAMED} tensors more have {kind}"))
    return problems


def counted(sentences: Mapping[str, int]) -> tuple[str, ...]:
    """Return each sentence with the number of tensors that it is about."""
    texts = []
    for text, count in sentences.items():
        noun = "tensors" if count > 1 else "tensor"
        texts.append(f"{text} ({count} {noun})")
    return tuple(texts)


def _depths(names: Sequence[str]) -> dict[str, int]:
    return {stack.prefix: stack.depth for stack in stacks(names)}


def _is_beyond(name: str, uneven: Mapping[str, tuple[int, int]]) -> bool:
    """Say whether a tensor lies behind the layers that both models have of its stack."""
    layer = layer_of(name)
    if layer is None or layer.prefix not in uneven:
        return False
    return layer.index >= min(uneven[layer.prefix])
