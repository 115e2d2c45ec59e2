"""Every model of a plan viewed under the donor's names, with a head if any of them has a head."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.plan.heads import settle_heads
from cuvee.plan.materials import Materials, unaligned
from cuvee.plan.names import View, view_as, view_of
from cuvee.plan.remarks import Remarks, remarks
from cuvee.recipe.reference import ModelRef
from cuvee.tokenizers.rows import AlignedCheckpoint


def with_views(materials: Materials) -> Remarks[tuple[Materials, Mapping[str, Any]]]:
    """Return the materials with the views, and how heads that some models tie change the donor's config."""
    donor = materials.donor
    first = view_of(materials.sources[donor])
    views: dict[ModelRef, View] = {}
    for model, source in materials.sources.items():
        views[model] = first if model == donor else view_as(first, source)
        stored = unaligned(source)
        warnings = [f"{model}: {warning}" for warning in getattr(stored, "warnings", ())]
        notes = [f"{model}: {note}" for note in getattr(stored, "notes", ())]
        notes += [f"{model}: {renaming}, as in {donor}" for renaming in views[model].renamings]
        yield from remarks(warnings=warnings, notes=notes)
    if any(materials.unseen.values()):
        return replace(materials, views=views), {}  # a head may be among the tensors whose headers cannot be read
    heads = settle_heads(views, donor)
    yield from remarks(heads.problems, notes=heads.notes)
    materials = replace(materials, views=heads.views)
    yield from _unnamed_rows(materials)
    return materials, heads.changes


def _unnamed_rows(materials: Materials) -> Iterator[CheckpointError]:
    """Yield the first tensor of which models need rows of each other, but that has other names in them.

    Rows of tokens that a model lacks are read from the others by the tensor's name, which they must share.
    """
    filled = []
    for model, source in materials.sources.items():
        if isinstance(source, AlignedCheckpoint) and source.rows.fills:
            filled.append(model)
    if not filled:
        return
    for name in materials.views[materials.donor].called:
        names = {view.called[name] for view in materials.views.values() if name in view.called}
        if len(names) > 1 and _is_filled(names, filled, materials):
            shown = ", ".join(sorted(names))
            message = f"'{name}' has the names {shown} in the models, and rows for tokens to be filled"
            hint = "save the models with the same names and ties first"
            yield CheckpointError(message, where=materials.recipe.source, hint=hint)
            return


def _is_filled(names: set[str], models: Sequence[ModelRef], materials: Materials) -> bool:
    return any(materials.row_map(model, name) for model, name in product(models, names))
