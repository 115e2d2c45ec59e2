"""The role of a tensor, from its name, its shape and its type. A tensor that no rule knows stays "unknown"."""

import re
from collections.abc import Mapping, Set
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
_BIAS = re.compile(r"^bias$|_bias$|^beta$")
_LINEAR = re.compile(r"proj|dense|linear|fc\d")
_NUMBERED = re.compile(r"^(?:.*?\.)??([^.\d][^.]*)\.(0|[1-9]\d{0,5})\.")
_PROJECTION = re.compile(r"weight$|proj\w*$|(^|\.)w\d$|kernel$")
_WEIGHT = re.compile(r"[._](weight|kernel)$")


@dataclass(frozen=True)
class Surroundings:
    """The facts that the rules use besides the tensor.

    `experts` is the number of experts by stack and layer, `expert_counts` the numbers that the config states.
    """

    vocabularies: frozenset[int]
    experts: Mapping[tuple[str, int], int]
    expert_counts: frozenset[int]


def expert_of(
    layer: Layer | None,
    expert_counts: frozenset[int],
    lists: Mapping[tuple[str, int, str], Set[int]],
) -> int | None:
    """Return the index of the expert that a layer's tensor belongs to.

    `lists` has the indices of each numbered list by stack, layer and the list's word. A list holds experts if its
    word says so, or if it is as long as the config says that there are experts.
    """
    entry = numbered_within(layer)
    if layer is None or entry is None:
        return None
    word, index = entry
    length = len(lists[layer.prefix, layer.index, word])
    holds_experts = "expert" in word or length in expert_counts
    if length < 2 or not holds_experts:
        return None
    return index


def numbered_within(layer: Layer | None) -> tuple[str, int] | None:
    """Return the first numbered list in a name within a layer, as (the list's word, the index), or None."""
    if layer is None:
        return None
    match = _NUMBERED.match(layer.rest)
    return (match[1], int(match[2])) if match else None


def stacked_experts(spec: TensorSpec, expert_counts: frozenset[int]) -> int | None:
    """Return how many experts lie in a three-dimensional tensor, None if it is no stack of experts."""
    if len(spec.shape) != 3 or "conv" in spec.name:
        return None
    experts = spec.shape[0]
    if "expert" in spec.name:
        return experts
    is_stack = experts in expert_counts and _PROJECTION.search(spec.name)
    return experts if is_stack else None


def is_counter(spec: TensorSpec) -> bool:
    """Say whether a tensor counts steps of a training, such as those of a batch norm: it says nothing of weights."""
    is_number = spec.dtype not in MERGEABLE and spec.elements == 1
    return is_number and _COUNTER.search(spec.name) is not None


def is_running_statistic(name: str) -> bool:
    """Say whether a tensor holds the means or variances that a batch norm has seen."""
    return _RUNNING.search(name) is not None


def is_factor(name: str) -> bool:
    """Say whether a tensor is a part of an adapter kept inside the checkpoint, which acts through products only."""
    return _FACTOR.search(name) is not None


def role_of(spec: TensorSpec, layer: Layer | None, expert: int | None, around: Surroundings) -> Role:
    """Return the role of a tensor: by its type, then its last word, then its number of axes."""
    axes = len(spec.shape)
    last = spec.name.rpartition(".")[2]
    if spec.dtype not in MERGEABLE or _BUFFER.search(spec.name):
        return "buffer"
    if _BIAS.search(last):
        return "bias" if axes <= 2 else "buffer"
    if stacked_experts(spec, around.expert_counts):
        return "linear"
    if axes == 2:
        return _of_matrix(spec, layer, expert, around)
    return _of_other_axes(spec, last)


def _of_other_axes(spec: TensorSpec, last: str) -> Role:
    """Return the role of a weight that is no matrix."""
    axes = len(spec.shape)
    if axes <= 1 and _NORM.search(spec.name):
        return "norm"
    is_conv = axes == 3 and "conv" in spec.name
    if axes >= 4 or is_conv:
        return "conv"
    return "embedding" if _EMBEDDING.search(last) else "unknown"


def _of_matrix(spec: TensorSpec, layer: Layer | None, expert: int | None, around: Surroundings) -> Role:
    module = _WEIGHT.sub("", spec.name)
    if layer is None and _is_head(spec, module, around.vocabularies):
        return "head"
    if layer is not None and expert is None:
        experts = around.experts.get((layer.prefix, layer.index), 0)
        if _is_router(spec, module, experts):
            return "router"
    own_words = layer.rest if layer else spec.name
    return _of_words(spec, module, own_words)


def _of_words(spec: TensorSpec, module: str, own_words: str) -> Role:
    """Return the role of a matrix by the words of its name."""
    if "patch" in module:
        return "linear"
    is_embedding = _EMBEDDING.search(own_words) or module.endswith("bias")
    if not is_embedding:
        return "linear" if _PROJECTION.search(spec.name) else "unknown"
    # A projection of an embedding works on vectors, not on tokens.
    return "linear" if _LINEAR.search(module) else "embedding"


def _is_head(spec: TensorSpec, module: str, vocabularies: frozenset[int]) -> bool:
    """Say whether a matrix outside the layers is a head: by its name, or by a row for each token."""
    if _HEAD.search(module) and not module.endswith("embeddings"):
        return True
    return spec.shape[0] in vocabularies and not _EMBEDDING.search(spec.name)


def _is_router(spec: TensorSpec, module: str, experts: int) -> bool:
    """Say whether a matrix of a layer scores its experts: a row for each, or a single gate of a shared expert."""
    last = module.rpartition(".")[2]
    rows = spec.shape[0]
    if last == "router":
        return True
    if rows == 1 and "gate" in last:
        return True
    is_projection = last.endswith(("up_proj", "down_proj"))
    return rows == experts > 0 and not is_projection
