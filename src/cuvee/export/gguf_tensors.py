"""A model's tensors as a GGUF file has them: their names, types, the order of their rows. None is lost or made up."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY
from cuvee.errors import CheckpointError, RecipeError
from cuvee.export import gguf_mixtures
from cuvee.export.gguf_mixtures import Kind, Mixture
from cuvee.foreign.gguf_names import Family, paired_rows

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

_COMPARED_BYTES = 1 << 24


@dataclass(frozen=True)
class GgufTensor:
    """A tensor as it is written: its name, its type, and the order of its rows where they change places.

    The tensors `specs`, of one shape, are stacked; mostly there is one, which is written as it is.
    """

    name: str
    specs: tuple[TensorSpec, ...]
    kind: Any
    nbytes: int
    order: np.ndarray | None
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole, with the number of tensors before it where they are stacked."""
        return stacked_shape(self.name, self.specs)


def stacked_shape(name: str, parts: Sequence[TensorSpec]) -> tuple[int, ...]:
    """Return the shape of a GGUF tensor that is made of tensors of one shape."""
    own = parts[0].shape
    return own if "_exps." not in name else (len(parts), *own)


def gguf_tensors(
    source: TensorSource, known: Family, kind: Kind, heads: Mapping[str, int], place: Path
) -> Generator[str, None, list[GgufTensor]]:
    """Name every tensor as GGUF does and choose its type; yields notes.

    `heads` are the numbers of heads of `q_proj` and `k_proj`.

    Raises CheckpointError if a tensor has no name there or is missing, or if the head is not as the config says.
    """
    specs = {_whole_name(name, source.tensors): spec for name, spec in source.tensors.items()}
    _check_names(specs, known, place)
    if _head_is_copy(specs, source, known, place):
        yield "the head is the embedding, and is written once"
        specs.pop(HEAD)
    _check_complete(specs, source.config, known, place)
    stacks: dict[str, list[str]] = {}
    for name in sorted(specs, key=_by_numbers):
        stacks.setdefault(str(known.gguf_name(name)), []).append(name)
    mixture = _mixture(source.config, known, kind, heads, is_tied=gguf_mixtures.HEAD not in stacks)
    tensors = []
    for whole, names in stacks.items():
        parts = tuple(specs[name] for name in names)
        tensors.append(_gguf_tensor(whole, parts, known, heads, mixture, place))
    yield from _narrow(tensors, mixture)
    return tensors


def _mixture(config: Mapping[str, Any], known: Family, kind: Kind, heads: Mapping[str, int], is_tied: bool) -> Mixture:
    """Raises RecipeError for experts' own kind where there are none."""
    layers, experts = int(config["num_hidden_layers"]), known.experts_of(config)
    if kind == "mxfp4_moe" and experts == 0:
        raise RecipeError("--type: mxfp4_moe is for models with experts, and this has none", hint="try q4_k_m")
    return Mixture(kind, layers, experts, is_tied, _is_70b(known, layers, experts, heads))


def _is_70b(known: Family, layers: int, experts: int, heads: Mapping[str, int]) -> bool:
    """Say whether llama.cpp calls the model LLM_TYPE_70B (src/models/llama.cpp, qwen2.cpp)."""
    if layers != 80:
        return False
    if known.key == "qwen2":
        return True
    shares_keys = heads["q_proj"] != heads["k_proj"]
    return known.key == "llama" and experts != 8 and shares_keys


def _narrow(tensors: Sequence[GgufTensor], mixture: Mixture) -> Iterator[str]:
    """Yield which matrices have another type because their rows are no whole blocks."""
    narrow = []
    for tensor in tensors:
        width = tensor.shape[-1]
        whole = (*tensor.shape[:-1], -(-width // gguf_mixtures.LONGEST) * gguf_mixtures.LONGEST)
        if tensor.kind.name != gguf_mixtures.type_of(tensor.name, whole, mixture):
            narrow.append(tensor)
    if narrow:
        example = f"{narrow[0].specs[0].name} as {narrow[0].kind.name}"
        yield f"{len(narrow)} matrices have rows that are not whole blocks, and get another type: {example}"


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Order names by the numbers in them: expert 10 stands behind expert 9."""
    return list(map(_order_of_part, name.split(".")))


def _order_of_part(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (-1, part)


def is_bare(source: TensorSource) -> bool:
    """Say whether these are the tensors of a model without a head, as embedding models are saved: without `model.`."""
    return EMBEDDING.removeprefix("model.") in source.tensors


def _whole_name(name: str, tensors: Mapping[str, TensorSpec]) -> str:
    if EMBEDDING.removeprefix("model.") in tensors and not name.startswith(("model.", HEAD)):
        return f"model.{name}"
    return name


def _check_names(specs: Mapping[str, TensorSpec], known: Family, place: Path) -> None:
    unknown = []
    for name, spec in specs.items():
        if name != HEAD and not _has_place(name, spec, known):
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        message = f"'{unknown[0]}'{more} has no place in a GGUF file of the type '{known.key}': it would be lost"
        raise CheckpointError(message, where=str(place))


def _has_place(name: str, spec: TensorSpec, known: Family) -> bool:
    is_weight = spec.dtype in MERGEABLE and len(spec.shape) <= 2
    return is_weight and known.gguf_name(name) is not None


def _head_is_copy(specs: Mapping[str, TensorSpec], source: TensorSource, known: Family, place: Path) -> bool:
    """Say whether the head need not be written. Raises CheckpointError if the config ties it to other numbers."""
    tied = source.config.get("tie_word_embeddings", known.tied)
    if HEAD not in specs:
        if tied or is_bare(source):
            return False
        message = f"config.json ties no head to the embedding, and there is no '{HEAD}'"
        raise CheckpointError(message, where=str(place), hint="llama.cpp would take the embedding for it")
    if not tied:
        return False
    if not _are_equal(source, specs[EMBEDDING], specs[HEAD]):
        message = f"config.json ties the head to the embedding, but '{HEAD}' holds other numbers"
        raise CheckpointError(message, where=str(place), hint="set 'tie_word_embeddings' to what was meant")
    return True


def _are_equal(source: TensorSource, one: TensorSpec, other: TensorSpec) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    for start in range(0, one.nbytes, _COMPARED_BYTES):
        pieces = [np.empty(min(_COMPARED_BYTES, one.nbytes - start), np.uint8) for _ in (one, other)]
        source.read_into(one.name, start, pieces[:1])
        source.read_into(other.name, start, pieces[1:])
        if not np.array_equal(pieces[0], pieces[1]):
            return False
    return True


def _check_complete(specs: Mapping[str, TensorSpec], config: Mapping[str, Any], known: Family, place: Path) -> None:
    """Raise CheckpointError unless these are the tensors of the config's model: llama.cpp loads no others."""
    expected = known.expected_names(config)
    missing = sorted(expected - specs.keys() - {HEAD})
    strange = sorted(specs.keys() - expected)
    if missing:
        raise CheckpointError(f"by config.json the model has '{missing[0]}', which is not there", where=str(place))
    if strange:
        message = f"by config.json the model has no '{strange[0]}', which is there: transformers would leave it out"
        raise CheckpointError(message, where=str(place))


def _gguf_tensor(
    name: str, parts: tuple[TensorSpec, ...], known: Family, heads: Mapping[str, int], mixture: Mixture, place: Path
) -> GgufTensor:
    """Raises CheckpointError for tensors of several shapes that are to be stacked."""
    import gguf

    spec = parts[0]
    other = next((part for part in parts if part.shape != spec.shape), None)
    if other is not None:
        message = f"'{other.name}' has shape {list(other.shape)}, and '{spec.name}' {list(spec.shape)}"
        raise CheckpointError(message, where=str(place))
    shape = stacked_shape(name, parts)
    kind = gguf.GGMLQuantizationType[gguf_mixtures.type_of(name, shape, mixture)]
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return GgufTensor(
        name,
        parts,
        kind,
        len(parts) * spec.elements // block * block_bytes,
        _order(spec.name, spec, heads, place) if known.rotated_rows else None,
        known.norm_offset if spec.name.endswith("norm.weight") else 0,
    )


def _order(name: str, spec: TensorSpec, heads: Mapping[str, int], place: Path) -> np.ndarray | None:
    """Return the order of the rows of query and key. Raises CheckpointError if they are not those of so many heads."""
    count = heads.get(name.split(".")[-2])
    if count is None:
        return None
    if spec.shape[0] % (2 * count):
        raise CheckpointError(f"'{name}' of {spec.shape[0]} rows does not fit {count} heads", where=str(place))
    return paired_rows(spec.shape[0], count)


def read_numbers(source: TensorSource, spec: TensorSpec, start: int, elements: int) -> np.ndarray:
    """Return some numbers of a flattened tensor as float32."""
    raw = np.empty(elements, NUMPY[spec.dtype])
    source.read_into(spec.name, start * raw.itemsize, [raw])
    return raw.astype(np.float32)
