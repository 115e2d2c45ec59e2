"""Compares models by their changes to a common base model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cuvee.arguments import as_reference, as_references, checks_options
from cuvee.checkpoint import TensorSource
from cuvee.comparison.figures import Figures, figures
from cuvee.comparison.groups import (
    ComparedTensor,
    Group,
    by_layer,
    by_layer_and_role,
    by_role,
    role_of,
    together,
)
from cuvee.comparison.matching import LeftOut, match
from cuvee.comparison.stream import PIECE, Reader
from cuvee.comparison.sums import Sums, no_sums
from cuvee.errors import CheckpointError, CuveeError, RecipeError, several
from cuvee.hub import Hub
from cuvee.kernels import BLOCK
from cuvee.plan.resolve import model_to_read
from cuvee.progress import Progress, Silent
from cuvee.structure import layer_of

BUFFER_BYTES = 32_000_000
"""What a worker may read at a time, of all models together, unless a block of each has more."""


@dataclass(frozen=True)
class Comparison:
    """Task vectors of `models`, taken from `base`, tensor by tensor, and the tensors that could not be compared.

    Readers need the `notes` before they believe the figures.
    """

    base: str
    models: tuple[str, ...]
    tensors: tuple[ComparedTensor, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    @cached_property
    def total(self) -> Figures:
        """The whole model."""
        return figures(together(tensor.sums for tensor in self.tensors))

    @cached_property
    def layers(self) -> tuple[Group, ...]:
        """Each layer, in order. Tensors outside the layers are among the roles only."""
        return by_layer(self.tensors)

    @cached_property
    def roles(self) -> tuple[Group, ...]:
        """Each role over all layers, then the tensors outside the layers."""
        return by_role(self.tensors)

    @cached_property
    def cells(self) -> tuple[Group, ...]:
        """Each role in each layer."""
        return by_layer_and_role(self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {
            "base": self.base,
            "models": list(self.models),
            "notes": list(self.notes),
            "left_out": list(map(asdict, self.left_out)),
            "total": asdict(self.total),
            "layers": list(map(asdict, self.layers)),
            "roles": list(map(asdict, self.roles)),
            "tensors": list(map(_plain_tensor, self.tensors)),
        }


@checks_options
def compare(
    models: Sequence[Path | str],
    *,
    base: Path | str | None = None,
    threads: int = 1,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare the task vectors of models side by side. Without `base`, the first model is the base.

    Every model is read once. Tensors that are not in all models, or in other shapes, or that are no weights, are left
    out and listed. Raises CheckpointError for models that cannot be read or have nothing in common.
    """
    named = as_references(models, "models")
    if base is not None:
        named = [as_reference(base, "base"), *named]
    if len(named) < 2:
        hint = "name another model, or the one that it was trained from with --base"
        raise RecipeError("expected at least two models to compare, found one", hint=hint)
    sources = opened_models(named, hub or Hub(), progress or Silent())
    return compare_checkpoints(sources, named, threads=threads, progress=progress)


def compare_checkpoints(
    sources: Sequence[TensorSource],
    labels: Sequence[str],
    *,
    threads: int = 1,
    piece: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare opened models, the base first. `piece` (elements) overrides how much is read at a time."""
    names, left_out = match(sources, labels)
    if not names:
        message = f"no tensor can be compared; '{left_out[0].tensor}' is {left_out[0].reason}"
        raise CheckpointError(message, hint="are these models of one family?")
    progress = progress or Silent()
    reader = Reader(sources, workers=threads, piece=piece or piece_size(len(sources)))
    sums = _summed(reader, names, progress)
    tensors = tuple(ComparedTensor(name, layer_of(name), role_of(name), sums[name]) for name in names)
    return Comparison(labels[0], tuple(labels[1:]), tensors, left_out, _notes(sources, labels, names))


def opened_models(named: Sequence[str], hub: Hub, progress: Progress) -> list[TensorSource]:
    """Open models by folders or names, `base+adapter` too. Raises all problems of all of them at once."""
    opened: list[TensorSource] = []
    problems: list[CuveeError] = []
    for text in named:
        try:
            opened.append(model_to_read(text, hub, progress))
        except (RecipeError, CheckpointError) as error:
            problems.extend(error.problems or (error,))
    if problems:
        raise several(problems)
    return opened


def _plain_tensor(tensor: ComparedTensor) -> dict[str, Any]:
    layer = f"{tensor.layer.prefix}.{tensor.layer.index}" if tensor.layer else None
    return {"name": tensor.name, "layer": layer, "role": tensor.role, "figures": asdict(tensor.figures)}


def piece_size(models: int) -> int:
    """Return the elements of a piece. It does not depend on the threads, so that no sum does."""
    return max(BLOCK, min(PIECE, BUFFER_BYTES // (8 * models) // BLOCK * BLOCK))


def _summed(reader: Reader, names: Sequence[str], progress: Progress) -> dict[str, Sums]:
    sums = {name: no_sums(len(reader.sources) - 1, tensors=1) for name in names}
    progress.start("compare", reader.all_bytes(names), "bytes")
    for piece, found in reader.sums(names):
        sums[piece.tensor] += found
        progress.advance(reader.nbytes(piece))
    progress.finish()
    return sums


def _notes(sources: Sequence[TensorSource], labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    base = [sources[0].tensors[name].dtype for name in names]
    other = []
    for source, label in zip(sources[1:], labels[1:], strict=True):
        if [source.tensors[name].dtype for name in names] != base:
            other.append(label)
    if not other:
        return ()
    return (f"rounding counts as a change: {', '.join(other)} and the base {labels[0]} have tensors of other types",)
