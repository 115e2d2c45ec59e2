"""A model that was saved with an adapter inside: `base_layer` beside `lora_A` in the names of one state dict.

What a training took out of the base for a start (PiSSA and the like) is out of these numbers already, and repeated
layers are repeated: neither is done again.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from cuvee.adapters.adapter import Adapter
from cuvee.adapters.config import parse_object
from cuvee.adapters.kind import Kind
from cuvee.adapters.names import OF_ADAPTER, OUTER, PREFIX
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.renamed import Renamed
from cuvee.errors import CheckpointError

_WRAPPERS = re.compile(r"\.(token_adapter\.base_layer|base_layer|original_module)(?=\.)")
_WRAPPED = re.compile(r"^(.+\.)base_layer\.")
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(A|embedding_A)(\.[^.]+)??(\.weight)?$")
_DONE_ALREADY: Mapping[str, Any] = {"init_lora_weights": True, "layer_replication": None}


def parts_of(source: TensorSource, name: str, settings: Mapping[str, Any]) -> tuple[Renamed, Adapter]:
    """Return the base and the adapter in a state dict; `settings` are those of an adapter's config.

    Raises CheckpointError for a model without an adapter inside, for names that stand for two tensors, and for tensors
    beside a module's own that no adapter of this kind has.
    """
    done = _DONE_ALREADY if settings.get("peft_type") == "LORA" else {}
    config = replace(parse_object({**settings, **done}, name), start=None)
    own = _own(source, config.kind, name)
    wrapped = tuple({match[1] for match in map(_WRAPPED.match, source.tensors) if match is not None})
    origins: dict[str, str] = {}
    for stored in source.tensors:
        if stored in own:
            continue
        if stored.startswith(wrapped) and not _WRAPPERS.search(stored):
            raise CheckpointError(f"'{stored}' is nothing that such an adapter is known to have", where=name)
        plain = _WRAPPERS.sub("", stored.removeprefix(PREFIX))
        if plain in origins:
            raise CheckpointError(f"'{stored}' and '{origins[plain]}' are one tensor of the base", where=name)
        origins[plain] = stored
    if not own:
        raise CheckpointError("has no adapter inside: no tensor is called lora_A or the like", where=name)
    if not origins:
        hint = "add it to its base: cuvee adapters apply BASE ADAPTER OUT"
        raise CheckpointError("holds an adapter alone, without a base", where=name, hint=hint)
    adapter = Renamed(source, {called: stored for stored, called in own.items() if called is not None})
    return Renamed(source, origins), Adapter(name, config, adapter)


def _own(source: TensorSource, kind: Kind | None, name: str) -> dict[str, str | None]:
    """Return the adapter's tensors by their stored names, each with the name that an adapter's file has for it.

    Modules repeat the tensors of a whole adapter: these get none, if the adapter's own are there.
    """
    if kind is None:
        return {stored: stored for stored in source.tensors if OF_ADAPTER.search(stored)}
    heads = {part.partition(".")[0] for part in (*kind.parts, *kind.ignored)} | {kind.whole or ""}
    splits = [split for stored in source.tensors if (split := _split(stored, heads | set(kind.shared)))]
    adapter_names = {split.words[1] for split in splits if split.names_adapter(heads)}
    if len(adapter_names) > 1:
        shown = ", ".join(sorted(adapter_names))
        raise CheckpointError(f"holds several adapters ({shown})", where=name, hint="save it with one of them")
    own: dict[str, str | None] = {stored: stored for stored in source.tensors if OF_ADAPTER.search(stored)}
    top = OUTER.rstrip(".")
    for split in sorted(splits, key=lambda split: split.module != top):
        is_shared = split.words[0] in kind.shared
        words = [word for word in split.words if word not in adapter_names]
        called = ".".join([top if is_shared else split.module, *words])
        is_repeated = is_shared and called in own.values()
        own[split.stored] = None if is_repeated else called
    return own


class _Split(NamedTuple):
    """The name of an adapter's tensor: its module, and the words from a part's name on."""

    stored: str
    module: str
    words: list[str]

    def names_adapter(self, heads: Collection[str]) -> bool:
        """Say whether the word after a part of a module is an adapter's name."""
        return self.words[0] in heads and len(self.words) > 1


def _split(stored: str, heads: Collection[str]) -> _Split | None:
    """Split a name at the first word that is a part's; None for the tensors of others."""
    words = stored.split(".")
    for i, word in enumerate(words):
        if word in heads:
            return _Split(stored, ".".join(words[:i]), words[i:])
    return None


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
