"""VB-LoRA (arXiv:2405.15179): W + B A, whose pieces are mixtures of the `topk` likeliest vectors of one bank.

As in PEFT 0.21.2, tuners/vblora/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, count, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    bank, most = parts["vblora_vector_bank"], settings["topk"]
    inner = _mixed(parts["vblora_logits_A"], bank, most)
    outer = _mixed(parts["vblora_logits_B"], bank, most)
    rank = len(inner)
    left = outer.transpose(0, 2, 1).reshape(-1, rank)
    return np.asarray(weight + left @ inner.reshape(rank, -1))


def _mixed(logits: np.ndarray, bank: np.ndarray, most: int) -> np.ndarray:
    """Return the mixtures [..., length] of the likeliest vectors, weighed by the softmax of their logits alone."""
    if most > logits.shape[-1]:
        raise ValueError(f"topk is {most}, and the bank has {logits.shape[-1]} vectors")
    chosen = np.argsort(-logits, axis=-1, kind="stable")[..., :most]
    likely = np.take_along_axis(logits, chosen, axis=-1)
    weights = np.exp(likely - likely.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray(np.einsum("...k,...kl->...l", weights, bank[chosen]))


def refusal(settings: Settings) -> str | None:
    if not settings["save_only_topk_weights"]:
        return None
    return "it has weights of the chosen vectors only: save it with save_only_topk_weights=False"


KIND = Kind(
    "VBLORA",
    forms=({"vblora_logits_A": "rank in_tiles vectors", "vblora_logits_B": "out_tiles rank vectors"},),
    keys={
        "topk": count(2),
        "save_only_topk_weights": switch(False),
        **unused("r", "num_vectors", "vector_length", "vblora_dropout", "init_vector_bank_bound", "init_logits_std"),
    },
    change=change,
    shared=("vblora_vector_bank",),
    refusal=refusal,
)
