"""Which tensors can be compared: those that every model has, in one shape, as weights. The rest is listed."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    for name in dict.fromkeys(name for source in sources for name in source.tensors):
        reason = _reason([source.tensors.get(name) for source in sources], labels)
        if reason is None:
            compared.append(name)
        else:
            left_out.append(LeftOut(name, reason))
    return tuple(compared), tuple(left_out)


def _reason(specs: Sequence[TensorSpec | None], labels: Sequence[str]) -> str | None:
    """Say why a tensor cannot be compared, or None."""
    missing = [label for label, spec in zip(labels, specs, strict=True) if spec is None]
    if missing:
        return f"not in {', '.join(missing)}"
    there = [(label, spec) for label, spec in zip(labels, specs, strict=True) if spec is not None]
    if len({spec.shape for _, spec in there}) > 1:
        return "shapes differ: " + ", ".join(f"{'×'.join(map(str, spec.shape))} in {label}" for label, spec in there)
    codes = sorted({spec.dtype for _, spec in there if spec.dtype not in MERGEABLE})
    return f"holds {' and '.join(codes)}, which are no weights" if codes else None
