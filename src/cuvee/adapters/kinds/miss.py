"""MiSS (arXiv:2409.15371): one block of r inputs, added to every r inputs of W; variants "bat" and "mini".

As in PEFT 0.21.2, tuners/miss/layer.py: "mini" repeats the block along the outputs, "bat" (Bone) multiplies with it.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, choice, count, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    block = parts["miss_block"]
    out, into = weight.shape
    if settings["init_weights"] == "bat":
        return _bat(weight, block)
    if settings["init_weights"] == "mini":
        block = np.tile(block, (1, out // settings["mini_r"]))
    if block.ndim != 2 or block.shape[1] != out or len(block) > into:
        raise ValueError(f"a block of {list(block.shape)} for {out} outputs and {into} inputs")
    times = -(-into // len(block))
    return np.asarray(weight + np.tile(block, (times, 1))[:into].T)


def _bat(weight: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    out, into = weight.shape
    size = blocks.shape[-1]
    if blocks.shape != (out // size, size, size) or out % size or into % size:
        raise ValueError(f"blocks of {list(blocks.shape)} for {out} outputs and {into} inputs")
    tiles = weight.reshape(out // size, size, into // size, size).transpose(2, 0, 1, 3)
    moved = tiles @ blocks + blocks
    return np.asarray(weight + moved.transpose(1, 2, 0, 3).reshape(weight.shape))


KIND = Kind(
    "MISS",
    forms=({"miss_block": "..."},),
    keys={"init_weights": choice(True, False, "bat", "mini"), "mini_r": count(1), **unused("r", "miss_dropout")},
    change=change,
)
