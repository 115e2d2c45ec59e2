"""Adapters by their names: found in folders or on a hub, combined, applied, extracted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from cuvee.arguments import as_path, as_reference, as_references, checks_options, refused
from cuvee.engine.combine import AdapterResult, How, combine, needs_base
from cuvee.engine.extract import Extraction, extract
from cuvee.engine.options import RunOptions
from cuvee.engine.run import MergeResult, merge
from cuvee.hub import Hub
from cuvee.plan.adapters import adapter_of
from cuvee.plan.recipes import copy_recipe
from cuvee.plan.resolve import model_to_read, named_base
from cuvee.progress import Progress, Silent


@checks_options
def combine_adapters(
    adapters: Sequence[Path | str],
    weights: Sequence[float],
    out: Path | str,
    how: How,
    *,
    base: Path | str = "",
    threads: int = 1,
    overwrite: bool = False,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> AdapterResult:
    """Combine adapters given by folder or `org/name[@revision]`, weighted and merged as `combine` says.

    If a base is needed and none is given, it is the base that the adapters name, if that is on a hub.
    """
    names, place = as_references(adapters, "adapters"), as_path(out, "out")
    if not isinstance(how, How):
        raise refused(how, "how", "a How of cuvee.engine.combine")
    hub = hub or Hub()
    heard = progress or Silent()
    found = [adapter_of(name, hub, heard).adapter for name in names]
    source = model_to_read(as_reference(base, "base"), hub, heard) if base else None
    if source is None and needs_base(found, weights, how):
        source = named_base(found, hub, heard)
    return combine(found, weights, place, how, base=source, threads=threads, overwrite=overwrite, progress=heard)


@checks_options
def apply_adapter(
    base: Path | str, adapter: Path | str, out: Path | str, *, hub: Hub | None = None, **options: Unpack[RunOptions]
) -> MergeResult:
    """Write a base with an adapter added. `Options` describes the options."""
    base, adapter = as_reference(base, "base"), as_reference(adapter, "adapter")
    return merge(copy_recipe(f"{base}+{adapter}", source="apply"), out, hub=hub, **options)


@checks_options
def extract_adapter(
    model: Path | str,
    base: Path | str,
    out: Path | str,
    how: Extraction,
    *,
    threads: int = 1,
    overwrite: bool = False,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> AdapterResult:
    """Extract an adapter of two models, each a folder or a name on a hub, as `extract` says."""
    names, place = (as_reference(model, "model"), as_reference(base, "base")), as_path(out, "out")
    if not isinstance(how, Extraction):
        raise refused(how, "how", "an Extraction of cuvee.engine.extract")
    hub = hub or Hub()
    heard = progress or Silent()
    tuned, origin = (model_to_read(name, hub, heard) for name in names)
    return extract(tuned, origin, place, how, names=names, threads=threads, overwrite=overwrite, progress=heard)
