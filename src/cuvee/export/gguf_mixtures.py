"""Which type a GGUF file of a kind has for each tensor: those that llama.cpp's `llama-quantize` chooses by itself.

Heads, values and some layers' last matrices get more bits than the rest, as its src/llama-quant.cpp says in
llama_tensor_get_type_impl, and rows that are not whole blocks another type. Importance matrices are llama.cpp's own.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "f32", "f16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q4_k_m", "q4_k_s", "q4_0", "mxfp4_moe"
]  # fmt: skip

FILE_TYPES: dict[Kind, int] = {
    "f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q5_0": 8, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17,
    "q6_k": 18, "mxfp4_moe": 38,
}  # fmt: skip
"""What GGUF calls a file of each kind."""

_USUAL: dict[Kind, str] = {
    "f32": "F32", "f16": "F16", "q4_0": "Q4_0", "q8_0": "Q8_0", "q5_0": "Q5_0", "q4_k_s": "Q4_K", "q4_k_m": "Q4_K",
    "q5_k_s": "Q5_K", "q5_k_m": "Q5_K", "q6_k": "Q6_K", "mxfp4_moe": "Q8_0",
}  # fmt: skip

LONGEST = 256
_BLOCKS = {"Q4_K": LONGEST, "Q5_K": LONGEST, "Q6_K": LONGEST}
"""Numbers of a block; 32 in all other types."""

_NARROWER = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""The type instead, where rows are no whole blocks of 256."""

EMBEDDING, HEAD = "token_embd.weight", "output.weight"


@dataclass(frozen=True)
class Mixture:
    """What the choice hangs on. `is_70b` is llama.cpp's name for some models of eighty layers; see `Family`."""

    kind: Kind
    layers: int
    experts: int
    is_tied: bool
    is_70b: bool


def type_of(name: str, shape: tuple[int, ...], mixture: Mixture) -> str:
    """Return the type of a tensor by its name in GGUF and its shape; experts are stacked along a first axis."""
    is_matrix = len(shape) > 1 and name.endswith(".weight")
    if not is_matrix or ".ffn_gate_inp." in name:  # llama.cpp keeps routers whole
        return "F32"
    usual = _USUAL[mixture.kind]
    if usual in ("F32", "F16"):
        return usual
    return _fitting(_preferred(name, shape, usual, mixture), shape[-1])


def _fitting(preferred: str, width: int) -> str:
    if width % _BLOCKS.get(preferred, 32):
        preferred = _NARROWER.get(preferred, "F16")
    return "F16" if width % 32 else preferred


def _preferred(name: str, shape: tuple[int, ...], usual: str, mixture: Mixture) -> str:
    head = EMBEDDING if mixture.is_tied else HEAD
    if name in (HEAD, head):
        is_plain = usual == "Q8_0" or shape[-1] % _BLOCKS.get(usual, 32) > 0
        return "Q8_0" if is_plain else "Q6_K"
    if not name.startswith("blk."):
        return usual
    _, number, module, _ = name.split(".")
    if mixture.kind == "mxfp4_moe":
        return "MXFP4" if len(shape) > 2 else usual
    if module in ("attn_v", "attn_qkv"):
        return _of_values(int(number), usual, mixture)
    if module == "attn_k" and mixture.experts == 8:
        return "Q8_0"
    if module == "attn_output" and mixture.experts == 8 and usual == "Q4_K":
        return "Q5_K"
    if module in ("ffn_down", "ffn_down_exps"):
        return _of_last(int(number), usual, mixture)
    return usual


def _of_values(layer: int, usual: str, mixture: Mixture) -> str:
    if mixture.experts == 8:
        return "Q8_0"
    chosen = usual
    if mixture.kind.endswith("_m") and _gets_more_bits(layer, mixture.layers):
        chosen = "Q6_K"
    elif mixture.kind == "q4_k_s" and layer < 4:
        chosen = "Q5_K"
    return "Q5_K" if mixture.is_70b and chosen == "Q4_K" else chosen


def _of_last(layer: int, usual: str, mixture: Mixture) -> str:
    if mixture.kind.endswith("_m") and _gets_more_bits(layer, mixture.layers):
        return "Q6_K"
    if mixture.kind == "q4_k_s" and layer < mixture.layers // 8:
        return "Q5_K"
    return usual


def _gets_more_bits(layer: int, layers: int) -> bool:
    """Say whether a layer is among the first and last eighth, or the third of three between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
