"""BOFT (arXiv:2311.06243) with one butterfly factor: s ∘ (W Rᵀ), R block-diagonal, each block a Cayley map.

More factors need PEFT's CUDA extension, which alone defines them. As in PEFT 0.21.2, tuners/boft/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    data = parts["boft_R"][0]
    blocks, size, _ = data.shape
    if blocks * size != weight.shape[1]:
        raise ValueError(f"{blocks} blocks of {size} for {weight.shape[1]} inputs")
    skew = (data - data.transpose(0, 2, 1)) / 2
    identity = np.eye(size)
    turned = np.linalg.solve((identity + skew).transpose(0, 2, 1), (identity - skew).transpose(0, 2, 1))
    rotations = turned.transpose(0, 2, 1)
    split = weight.reshape(len(weight), blocks, size)
    return np.asarray(parts["boft_s"] * np.einsum("obc,brc->obr", split, rotations).reshape(weight.shape))


KIND = Kind(
    "BOFT",
    forms=({"boft_R": "1 blocks size size", "boft_s": "out 1"},),
    keys=unused("boft_block_size", "boft_block_num", "boft_n_butterfly_factor", "boft_dropout"),
    change=change,
)
