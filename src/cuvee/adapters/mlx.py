"""Adapters of mlx-lm, presented as PEFT's: `adapters.safetensors` with `lora_a` [in, rank] and `lora_b` [rank, out].

As in mlx-lm 0.32.2, tuner/lora.py and tuner/dora.py: W + scale (a b)ᵀ; of an embedding W + scale a b, which a tied head
follows; of a stack of experts (`switch_mlp`) W[e] + scale b[e] a[e]. Of the config the kind, the rank and the scale
count; the rest is of the training, and nothing that it names is opened.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.adapters.config import AdapterConfig, read_json
from cuvee.adapters.kind import is_count, is_number, is_text
from cuvee.adapters.patterns import Patterns
from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.documents.shown import shown
from cuvee.errors import CheckpointError

WEIGHTS = "adapters.safetensors"
KINDS = ("lora", "dora")

_PART = re.compile(r"^(?P<module>.+)\.(?P<part>lora_a|lora_b|m)$")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|embedding)$")
_SWITCH = re.compile(r"^(?P<owner>.+)\.switch_mlp\.(?P<projection>[^.]+)$")
_OF_MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
"""What files have for what mlx-lm calls by one name for all families, in Mixtral's `block_sparse_moe`."""

_NAMES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "m": "lora_magnitude_vector"}
_EMBEDDING_NAMES = {"lora_a": "lora_embedding_A", "lora_b": "lora_embedding_B"}


@dataclass(frozen=True)
class _Origin:
    """Where a presented tensor comes from: a stored one, of a stack one expert's, turned or not."""

    name: str
    expert: int | None
    turned: bool


def mlx_config(path: Path) -> AdapterConfig:
    """Read the config of an adapter of mlx-lm. Raises CheckpointError for what its formula does not cover."""
    data, where = read_json(path), str(path)
    kind = data.get("fine_tune_type", "lora")
    if kind == "full":
        hint = "fuse it with mlx_lm.fuse, then use the model"
        raise CheckpointError("it holds whole weights in the order of mlx-lm", where=where, hint=hint)
    if kind not in KINDS:
        raise CheckpointError(f"fine_tune_type: expected lora or dora, found {shown(kind)}", where=where)
    written = data.get("lora_parameters")
    settings: dict[str, Any] = written if isinstance(written, dict) else {}
    rank: Any = settings.get("rank")
    scale: Any = settings.get("scale")
    if not is_count(rank):
        raise CheckpointError(f"lora_parameters: expected a rank of at least 1, found {shown(rank)}", where=where)
    if not is_number(scale):
        raise CheckpointError(f"lora_parameters: expected a scale, found {shown(scale)}", where=where)
    if "alpha" in settings:
        message = "lora_parameters has an alpha: early releases of mlx-lm multiplied the scale by alpha / rank"
        hint = "write the product as the scale, or leave alpha out if the release was a later one"
        raise CheckpointError(message, where=where, hint=hint)
    base = data.get("model")
    named = base if is_text(base) else None
    return _as_of_peft(where, named, rank, float(scale) * rank, dora=kind == "dora")


def _as_of_peft(where: str, base: str | None, rank: int, alpha: float, *, dora: bool) -> AdapterConfig:
    return AdapterConfig(
        where=where,
        base=base,
        task_type=None,
        rank=rank,
        alpha=alpha,
        rslora=False,
        dora=dora,
        rank_pattern=Patterns(),
        alpha_pattern=Patterns(),
        fan_in_fan_out=False,
        bias="none",
        lora_bias=False,
        target_modules=None,
        exclude_modules=(),
        modules_to_save=(),
        layers=(),
        layers_pattern=Patterns(),
        target_parameters=(),
        token_indices={},
        ties_weights=True,
    )


class MlxAdapter:
    """Reads as a plain checkpoint does, with the names and shapes of PEFT. Raises CheckpointError for other tensors."""

    def __init__(self, stored: TensorSource, where: str, prefix: str) -> None:
        self.stored = stored
        self.config: dict[str, Any] = {}
        self.place = stored.place
        self._origins: dict[str, _Origin] = {}
        tensors: dict[str, TensorSpec] = {}
        for name, spec in stored.tensors.items():
            match = _PART.match(name)
            if match is None:
                raise CheckpointError(f"'{name}' is nothing that an adapter of mlx-lm is known to have", where=where)
            for presented, origin, shape in _presented(match["module"], match["part"], spec, where):
                tensors[prefix + presented] = replace(spec, name=prefix + presented, shape=shape)
                self._origins[prefix + presented] = origin
        self.tensors: Mapping[str, TensorSpec] = tensors

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        raw = self._numbers(name).reshape(-1).view(np.uint8)
        for part in out:
            part.view(np.uint8)[:] = raw[start : start + part.nbytes]
            start += part.nbytes

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        """Factors are small: nothing is read ahead."""

    def files(self) -> dict[str, StoredFile]:
        return self.stored.files()

    def _numbers(self, name: str) -> np.ndarray:
        origin = self._origins[name]
        spec, size = self.stored.tensors[origin.name], self.tensors[name].nbytes
        raw = np.empty(size, np.uint8)
        self.stored.read_into(origin.name, size * (origin.expert or 0), [raw])
        shape = spec.shape[-2:] if origin.expert is not None else spec.shape
        numbers = raw.view(NUMPY[spec.dtype]).reshape(shape)
        return np.ascontiguousarray(numbers.T if origin.turned else numbers)


_Presented = tuple[str, _Origin, tuple[int, ...]]


def _presented(module: str, part: str, spec: TensorSpec, where: str) -> list[_Presented]:
    """Return the names that PEFT has for a stored tensor, for each expert of a stack one."""
    if len(spec.shape) == 3 and part != "m":
        return [
            (f"{expert_module}.{_NAMES[part]}", _Origin(spec.name, expert, turned=False), spec.shape[1:])
            for expert, expert_module in enumerate(_experts(module, spec.shape[0], where))
        ]
    if _EMBEDDING.search(module):
        if part == "m":
            message = f"'{spec.name}' gives each token of an embedding a length, as PEFT's DoRA does not"
            raise CheckpointError(message, where=where, hint="fuse it with mlx_lm.fuse, then use the model")
        return [(f"{module}.{_EMBEDDING_NAMES[part]}", _Origin(spec.name, None, turned=True), spec.shape[::-1])]
    return [(f"{module}.{_NAMES[part]}", _Origin(spec.name, None, turned=True), spec.shape[::-1])]


def _experts(module: str, count: int, where: str) -> list[str]:
    """Return the names that files have for the modules of single experts."""
    match = _SWITCH.match(module)
    if match is None:
        message = f"'{module}' is a stack of experts whose names in the base's files are not known"
        raise CheckpointError(message, where=where, hint="fuse it with mlx_lm.fuse, then use the model")
    projection = match["projection"]
    if match["owner"].endswith("block_sparse_moe"):
        projection = _OF_MIXTRAL.get(projection, projection)
    return [f"{match['owner']}.experts.{expert}.{projection}" for expert in range(count)]
