"""A model that was saved with an adapter inside: `base_layer` beside `lora_A` in the names of one state dict.

What a training took out of the base for a start (PiSSA and the like) is out of these numbers already, and repeated
layers are repeated: neither is done again.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cuvee.adapters.adapter import OF_ADAPTER, PREFIX, Adapter
from cuvee.adapters.config import AdapterConfig, parse_object
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.renamed import Renamed
from cuvee.errors import CheckpointError

_WRAPPERS = re.compile(r"\.(token_adapter\.base_layer|base_layer|original_module)(?=\.)")
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(A|embedding_A)(\.[^.]+)??(\.weight)?$")
_DONE_ALREADY: Mapping[str, Any] = {"init_lora_weights": True, "layer_replication": None}


def parts_of(source: TensorSource, name: str, settings: Mapping[str, Any]) -> tuple[Renamed, Adapter]:
    """Return the base and the adapter in a state dict; `settings` are those of an adapter's config.

    Raises CheckpointError for a model without an adapter inside, and for names that stand for two tensors.
    """
    origins: dict[str, str] = {}
    own: dict[str, str] = {}
    for stored in source.tensors:
        if OF_ADAPTER.search(stored):
            own[stored] = stored
            continue
        plain = _WRAPPERS.sub("", stored.removeprefix(PREFIX))
        if plain in origins:
            raise CheckpointError(f"'{stored}' and '{origins[plain]}' are one tensor of the base", where=name)
        origins[plain] = stored
    if not own:
        raise CheckpointError("has no adapter inside: no tensor is called lora_A or the like", where=name)
    if not origins:
        hint = "add it to its base: cuvee adapters apply BASE ADAPTER OUT"
        raise CheckpointError("holds an adapter alone, without a base", where=name, hint=hint)
    adapter = Renamed(source, own)
    return Renamed(source, origins), Adapter(name, _config(settings, name, adapter), adapter)


def settings_of(source: TensorSource, alpha: float, *, rslora: bool) -> dict[str, Any]:
    """Return the settings of plain LoRA with one alpha, and the ranks that the factors have."""
    ranks = {}
    for stored, spec in source.tensors.items():
        match = _FACTOR.match(stored.removeprefix(PREFIX))
        if match is not None and len(spec.shape) == 2:
            ranks[match["module"]] = spec.shape[0]
    named = {re.escape(module): rank for module, rank in ranks.items()}
    rank = max(ranks.values(), default=1)
    return {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "rank_pattern": named}


def _config(settings: Mapping[str, Any], name: str, adapter: TensorSource) -> AdapterConfig:
    config = parse_object({**settings, **_DONE_ALREADY}, name)
    if config.kind is not None:
        hint = "merge it with PEFT's merge_and_unload where it was trained"
        message = f"has an adapter of the kind {config.kind.name} inside, and only LoRA's is taken out"
        raise CheckpointError(message, where=name, hint=hint)
    return replace(config, start=None)
