"""AdaLoRA (arXiv:2303.10512): W + alpha / (r0 + 1e-5) B (E ∘ A), where r0 is the rank that the training began with.

The divisor stays r0 when ranks are cut off, and the small number is PEFT's. As in PEFT 0.21.2, tuners/adalora/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Key, Kind, Parts, Settings, count, number, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    rank = len(parts["lora_E"])
    alpha = settings["lora_alpha"] if settings["lora_alpha"] > 0 else rank
    product = parts["lora_B"] @ (parts["lora_A"] * parts["lora_E"])
    return np.asarray(weight + alpha / (settings["init_r"] + 1e-5) * product)


def _are_masks(value: object) -> bool:
    """Say whether a value says of each module which of its ranks were kept: the stored tensors have those alone."""
    if not isinstance(value, dict):
        return False
    return all(_is_mask(mask) for name, mask in value.items() if isinstance(name, str))


def _is_mask(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(is_kept, bool) for is_kept in value)


KIND = Kind(
    "ADALORA",
    forms=({"lora_A": "rank in", "lora_B": "out rank", "lora_E": "rank 1"},),
    keys={
        "lora_alpha": number(8),
        "init_r": count(12),
        "rank_pattern": Key(None, _are_masks, "lists of switches by module"),
        **unused(
            "r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step",
            "lora_dropout", "init_lora_weights", "use_rslora", "qalora_group_size", "megatron_core",
        ),
        **{
            name: Key(None, lambda value: not value, "nothing: AdaLoRA has none of LoRA's variants")
            for name in (
                "loftq_config", "eva_config", "corda_config", "lora_ga_config", "alpha_pattern", "runtime_config",
            )
        },
    },
    change=change,
    ignored=("ranknum",),
)  # fmt: skip
