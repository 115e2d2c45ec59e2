"""Whether the tensors of two models are the same by name, said shortly where they are not."""

from collections.abc import Mapping, Sequence

from cuvee.errors import CheckpointError, CuveeError, closest
from cuvee.structure import layer_of, predicts_ahead, stacks
from cuvee.structure.task_heads import task_head

MOST_NAMED = 3
"""Tensors named for one model; more are counted."""


def name_problems(
    expected_of: str, expected: Sequence[str], model: str, found: Sequence[str]
) -> tuple[list[str], list[CuveeError]]:
    """Return which tensors `model` lacks, and the problems: what it lacks or has besides what is expected."""
    there, wanted = set(found), set(expected)
    missing = [name for name in expected if name not in there]
    surplus = [name for name in found if name not in wanted]
    problems: list[CuveeError] = []
    depths, theirs = _depths(expected), _depths(found)
    uneven = [prefix for prefix in depths if prefix in theirs and depths[prefix] != theirs[prefix]]
    for prefix in uneven:
        message = f"has {theirs[prefix]} layers in '{prefix}', and {expected_of} has {depths[prefix]}"
        hint = "merge layers of your choice with 'slices'"
        problems.append(CheckpointError(message, where=model, hint=hint))
    kept = {prefix: min(depths[prefix], theirs[prefix]) for prefix in uneven}
    loose = [name for name in missing if not _beyond(name, kept)]
    spare = [name for name in surplus if not _beyond(name, kept)]
    for name in loose[:MOST_NAMED]:
        guess = closest(name, spare)
        hint = f"did you mean '{guess}'? Else {_way_out(name)}" if guess else _way_out(name)
        problems.append(CheckpointError(f"has no tensor '{name}', which {expected_of} has", where=model, hint=hint))
    if len(loose) > MOST_NAMED:
        problems.append(CheckpointError(f"lacks {len(loose)} tensors of {expected_of} in all", where=model))
    for name in spare[:MOST_NAMED] if not loose else ():
        message = f"has a tensor '{name}', which {expected_of} lacks: it would be lost"
        problems.append(CheckpointError(message, where=model, hint=_way_out(name)))
    return missing, problems


def _way_out(name: str) -> str:
    """Say which keys of a recipe decide what becomes of a tensor that only some models have."""
    ways = "`missing: base` goes by the base model, or else the first; `missing: skip` by the models that have it"
    if predicts_ahead(name):
        return f"`mtp: MODEL` takes what predicts ahead from a model, `mtp: drop` leaves it out; {ways}"
    if task_head(name) is not None:
        return f"`head: MODEL` takes such heads from one model; {ways}"
    return ways


def few(clashes: Sequence[CuveeError], kind: str) -> list[CuveeError]:
    """Return the first clashes, and a problem that counts the rest."""
    problems = list(clashes[:MOST_NAMED])
    if len(clashes) > MOST_NAMED:
        problems.append(CheckpointError(f"and {len(clashes) - MOST_NAMED} tensors more have {kind}"))
    return problems


def counted(sentences: Mapping[str, int]) -> tuple[str, ...]:
    """Return each sentence with the number of tensors that it is about."""
    return tuple(f"{text} ({count} {'tensors' if count > 1 else 'tensor'})" for text, count in sentences.items())


def _depths(names: Sequence[str]) -> dict[str, int]:
    return {stack.prefix: stack.depth for stack in stacks(names)}


def _beyond(name: str, kept: dict[str, int]) -> bool:
    layer = layer_of(name)
    return layer is not None and layer.index >= kept.get(layer.prefix, layer.index + 1)
