"""A model that was saved with an adapter inside: `base_layer` beside `lora_A` in the names of one state dict.

What a training took out of the base for a start (PiSSA and the like) is out of these numbers already, and repeated
layers are repeated: neither is done again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.adapters.adapter import OF_ADAPTER, PREFIX, Adapter
from cuvee.adapters.config import AdapterConfig, parse_object
from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.errors import CheckpointError

_WRAPPERS = re.compile(r"\.(token_adapter\.base_layer|base_layer|original_module)(?=\.)")
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(A|embedding_A)(\.[^.]+)??(\.weight)?$")
_DONE_ALREADY: Mapping[str, Any] = {"init_lora_weights": True, "layer_replication": None}


class Part:
    """Some tensors of a checkpoint, under other names: `origins` are those that they have there."""

    def __init__(self, source: TensorSource, origins: Mapping[str, str]) -> None:
        self.source = source
        self.config: dict[str, Any] = source.config
        self.place: Path | None = source.place
        self.notes: tuple[str, ...] = getattr(source, "notes", ())
        self._origins = origins
        stored: Mapping[str, str] = getattr(source, "meant", {})
        self.meant = {name: stored[origin] for name, origin in origins.items() if origin in stored}
        self.tensors: Mapping[str, TensorSpec] = {
            name: replace(source.tensors[origin], name=name) for name, origin in origins.items()
        }

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        self.source.read_into(self._origins[name], start, out)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        self.source.will_read(self._origins[name], start, nbytes)

    def files(self) -> dict[str, StoredFile]:
        return self.source.files()


def parts_of(source: TensorSource, name: str, settings: Mapping[str, Any]) -> tuple[Part, Adapter]:
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
    adapter = Part(source, own)
    return Part(source, origins), Adapter(name, _config(settings, name, adapter), adapter)


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
