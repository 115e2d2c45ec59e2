"""Adapters by their names: found in folders or on a hub, combined, applied, extracted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuvee.adapters import Adapter
from cuvee.adapters.quantised import plain_name
from cuvee.addition import language
from cuvee.checkpoint import TensorSource
from cuvee.engine.combine import AdapterResult, How, combine, needs_base
from cuvee.engine.extract import Extraction, extract
from cuvee.engine.run import MergeResult, merge
from cuvee.errors import CheckpointError
from cuvee.hub import Hub
from cuvee.plan.adapters import adapter_of
from cuvee.plan.resolve import model_to_read
from cuvee.progress import Progress, Silent
from cuvee.recipe.load import parse_recipe
from cuvee.recipe.reference import ModelRef


def combine_adapters(
    adapters: Sequence[str],
    weights: Sequence[float],
    out: Path,
    how: How,
    *,
    base: str = "",
    hub: Hub | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> AdapterResult:
    """Combine adapters given by folder or `org/name[@revision]`. Options are those of `combine`.

    Where the base is needed and not given, it is the one that the adapters name, if that is on a hub.
    """
    hub, heard = hub or Hub(), progress or Silent()
    found = [adapter_of(name, hub, heard).adapter for name in adapters]
    source = model_to_read(base, hub, heard) if base else None
    if source is None and needs_base(found, weights, how):
        source = _named_base(found, hub, heard)
    return combine(found, weights, out, how, base=source, progress=heard, **options)


def apply_adapter(base: str, adapter: str, out: Path, *, hub: Hub | None = None, **options: Any) -> MergeResult:
    """Write a base with an adapter added. Options are those of `run_plan`."""
    document = {"merge_method": "passthrough", "models": [{"model": f"{base}+{adapter}"}]}
    recipe = parse_recipe(json.dumps(document, indent=1, ensure_ascii=False), language(), source="apply")
    return merge(recipe, out, hub=hub, **options)


def extract_adapter(
    model: str,
    base: str,
    out: Path,
    how: Extraction,
    *,
    hub: Hub | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> AdapterResult:
    """Extract an adapter of two models given by reference. Options are those of `extract`."""
    hub, heard = hub or Hub(), progress or Silent()
    sources = [model_to_read(name, hub, heard) for name in (model, base)]
    return extract(sources[0], sources[1], out, how, names=(model, base), progress=heard, **options)


def _named_base(adapters: Sequence[Adapter], hub: Hub, progress: Progress) -> TensorSource | None:
    """Open the base that the adapters name, if they agree and it is one of a hub. A path of a stranger is not opened.

    For a quantised base it is the likely name of the weights themselves. None where nothing is named.
    """
    names = {adapter.config.base for adapter in adapters}
    name = names.pop() if len(names) == 1 else None
    if name is None or not ModelRef(name).looks_like_hub_name or Path(name).exists():
        return None
    plain = plain_name(name)
    try:
        return model_to_read(plain or name, hub, progress)
    except CheckpointError as error:
        if plain is None:
            return None
        message = f"the adapters were trained on the quantised {name}; its weights are likely those of {plain}"
        raise CheckpointError(message, hint=f"name the base with --base ({error.message})") from error
