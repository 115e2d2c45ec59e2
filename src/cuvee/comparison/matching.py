"""Which tensors can be compared: those that every model has, in one shape, as weights. The rest is listed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE


@dataclass(frozen=True)
class LeftOut:
    """A tensor that is not compared, and why."""

    tensor: str
    reason: str


def match(sources: Sequence[TensorSource], labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """Return the tensors to compare, in the first model's order, and those that cannot be."""
    compared: list[str] = []
    left_out: list[LeftOut] = []
    for name in dict.fromkeys(chain.from_iterable(source.tensors for source in sources)):
        reason = _reason([source.tensors.get(name) for source in sources], labels)
        if reason is None:
            compared.append(name)
        else:
            left_out.append(LeftOut(name, reason))
    return tuple(compared), tuple(left_out)


def _reason(specs: Sequence[TensorSpec | None], labels: Sequence[str]) -> str | None:
    """Say why a tensor cannot be compared, or None."""
    missing = []
    stored: dict[str, TensorSpec] = {}
    for label, spec in zip(labels, specs, strict=True):
        if spec is None:
            missing.append(label)
        else:
            stored[label] = spec
    if missing:
        return f"not in {', '.join(missing)}"
    if len({spec.shape for spec in stored.values()}) > 1:
        shapes = [f"{'×'.join(map(str, spec.shape))} in {label}" for label, spec in stored.items()]
        return f"shapes differ: {', '.join(shapes)}"
    codes = {spec.dtype for spec in stored.values()}.difference(MERGEABLE)
    return f"holds {' and '.join(sorted(codes))}, which are no weights" if codes else None
