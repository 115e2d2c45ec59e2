"""What a tensor is for, from its name, its shape and its type. What no rule knows stays "unknown"."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE
from cuvee.structure.layers import Layer
from cuvee.structure.structure import Role

_NORM = re.compile(r"norm|layrnorm|(^|[._])ln([._\d]|$)|(^|[._])ln_|[._]gamma$", re.IGNORECASE)
_BUFFER = re.compile(r"inv_freq|rotary_emb\.|position_ids|running_(mean|var)|masked_bias|num_batches|attn_mask", re.I)
_COUNTER = re.compile(r"(^|[._])(num_(batches_tracked|updates|steps|samples)|n_updates|(global_)?steps?|counter)$")
_RUNNING = re.compile(r"(^|[._])running_(mean|var)$")
_FACTOR = re.compile(
    r"(^|\.)(lora_(A|B|embedding_A|embedding_B|magnitude_vector)|hada_w[12]_[ab]|hada_t[12]|lokr_(w[12](_[ab])?|t2)"
    r"|ia3_l|vera_lambda_[bd]|oft_[rR]|boft_[RS])(\.|$)"
)
"""What PEFT calls the parts of an adapter in a layer, in its `tuners`."""

_EMBEDDING = re.compile(r"embed|(^|\.)w[tp]e\.|(^|\.)shared\.|token|probe|newline|position", re.IGNORECASE)
_HEAD = re.compile(r"(^|[._])(lm_?head|head|embed_out|unembed|output|proj_out|classifier|score|qa_outputs|decoder)$")
_PROJECTION = re.compile(r"weight$|proj\w*$|(^|\.)w\d$|kernel$")
_WEIGHT = re.compile(r"[._](weight|kernel)$")


@dataclass(frozen=True)
class Surroundings:
    """What the rules know besides the tensor: sizes of vocabularies and, for each layer, how many experts it has."""

    vocabularies: frozenset[int]
    experts: Mapping[tuple[str, int], int]
    experts_said: frozenset[int]


def expert_of(layer: Layer | None, said: frozenset[int], counts: Mapping[str, int]) -> int | None:
    """Return the index of the expert that a layer's tensor belongs to. `counts` is of numbered lists by their path."""
    listed = numbered_within(layer)
    if layer is None or listed is None:
        return None
    word, index = listed
    count = counts.get(word, 0)
    return index if count > 1 and ("expert" in word or count in said) else None


def numbered_within(layer: Layer | None) -> tuple[str, int] | None:
    """Return the numbered list within a layer that a tensor is in, as (its word, the index), or None."""
    match = re.match(r"^(?:.*?\.)??([^.\d][^.]*)\.(0|[1-9]\d{0,5})\.", layer.rest) if layer else None
    return (match[1], int(match[2])) if match else None


def stacked_experts(spec: TensorSpec, said: frozenset[int]) -> int | None:
    """Return how many experts lie in one three-dimensional tensor, or None."""
    if len(spec.shape) != 3 or "conv" in spec.name:
        return None
    is_stack = "expert" in spec.name or (spec.shape[0] in said and _PROJECTION.search(spec.name))
    return spec.shape[0] if is_stack else None


def is_counter(spec: TensorSpec) -> bool:
    """Say whether a tensor counts steps of a training, such as those of a batch norm: it says nothing of weights."""
    return spec.dtype not in MERGEABLE and spec.elements == 1 and _COUNTER.search(spec.name) is not None


def is_running_statistic(name: str) -> bool:
    """Say whether a tensor holds the means or variances that a batch norm has seen."""
    return _RUNNING.search(name) is not None


def is_factor(name: str) -> bool:
    """Say whether a tensor is a part of an adapter kept inside the checkpoint, which acts through products only."""
    return _FACTOR.search(name) is not None


def role_of(spec: TensorSpec, layer: Layer | None, expert: int | None, around: Surroundings) -> Role:
    """Say what a tensor is for."""
    name, rank = spec.name, len(spec.shape)
    last = name.rpartition(".")[2]
    if spec.dtype not in MERGEABLE or _BUFFER.search(name):
        return "buffer"
    if last == "bias" or last.endswith("_bias") or last == "beta":
        return "bias" if rank <= 2 else "buffer"
    if rank <= 1 and _NORM.search(name):
        return "norm"
    if stacked_experts(spec, around.experts_said):
        return "linear"
    if rank >= 3:
        return "conv" if rank >= 4 or "conv" in name else "embedding" if _EMBEDDING.search(last) else "unknown"
    if rank == 2:
        return _of_matrix(spec, layer, expert, around)
    return "embedding" if _EMBEDDING.search(last) else "unknown"


def _of_matrix(spec: TensorSpec, layer: Layer | None, expert: int | None, around: Surroundings) -> Role:
    module = _WEIGHT.sub("", spec.name)
    if layer is None:
        if _HEAD.search(module) and not module.endswith("embeddings"):
            return "head"
        if spec.shape[0] in around.vocabularies and not _EMBEDDING.search(spec.name):
            return "head"
    elif expert is None and _is_router(spec, module, around.experts.get((layer.prefix, layer.index), 0)):
        return "router"
    if "patch" in module:
        return "linear"
    if _EMBEDDING.search(_own_words(spec.name, layer)) or module.endswith("bias"):
        return "embedding" if not re.search(r"proj|dense|linear|fc\d", module) else "linear"
    return "linear" if _PROJECTION.search(spec.name) else "unknown"


def _is_router(spec: TensorSpec, module: str, experts: int) -> bool:
    last = module.rpartition(".")[2]
    if experts and spec.shape[0] == experts and not last.endswith(("up_proj", "down_proj")):
        return True
    return last == "router" or (spec.shape[0] == 1 and "gate" in last)


def _own_words(name: str, layer: Layer | None) -> str:
    """Return the part of the name that says what the tensor is: within a layer, the name within it."""
    return layer.rest if layer else name
