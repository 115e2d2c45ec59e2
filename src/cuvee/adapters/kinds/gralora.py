"""GraLoRA (arXiv:2505.20355): k x k blocks of low rank, and LoRA besides; s = alpha / (r + hybrid_r).

As in PEFT 0.21.2, tuners/gralora/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Key, Kind, Parts, Settings, count, number, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    out, into = weight.shape
    inner, outer = parts["gralora_A"], parts["gralora_B"]
    pieces, width, rank = inner.shape
    covers = pieces * width == into and outer.shape == (pieces, rank, out // pieces)
    if not covers or out % pieces or rank % pieces:
        raise ValueError(f"{pieces} pieces of rank {rank} for {list(weight.shape)}")
    # Piece n of the inputs gives the n-th part of the rank of every piece of the outputs.
    scattered = inner.reshape(pieces, width, pieces, rank // pieces)
    gathered = np.zeros((pieces, width, pieces, pieces, rank // pieces))
    for piece in range(pieces):
        gathered[piece, :, :, piece] = scattered[piece]
    total = np.einsum("nwkr,kro->konw", gathered.reshape(pieces, width, pieces, rank), outer).reshape(out, into)
    if "gralora_A_general.weight" in parts:
        total = total + parts["gralora_B_general.weight"] @ parts["gralora_A_general.weight"]
    return np.asarray(weight + settings["alpha"] / (settings["r"] + settings["hybrid_r"]) * total)


_BLOCKS = {"gralora_A": "pieces width rank", "gralora_B": "pieces rank height"}
_GENERAL = {"gralora_A_general.weight": "hybrid in", "gralora_B_general.weight": "out hybrid"}

KIND = Kind(
    "GRALORA",
    forms=(_BLOCKS, {**_BLOCKS, **_GENERAL}),
    keys={
        "r": count(32),
        "hybrid_r": Key(0, lambda value: type(value) is int and 0 <= value < 1 << 20, "a whole number"),
        "alpha": number(64),
        **unused("gralora_dropout", "gralora_k"),
    },
    change=change,
)
