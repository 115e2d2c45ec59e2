"""One adapter of every kind that PEFT knows, over tiny models, with random numbers as if it had been trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.conftest import Made, load, peft, peft_logits, quiet, torch

MODULES = ["q_proj", "v_proj", "down_proj"]
SMALL = {"target_modules": MODULES, "r": 4}

VARIANTS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "ADALORA": {"": {"target_modules": MODULES, "init_r": 6, "target_r": 4, "total_step": 10, "tinit": 1, "tfinal": 1}},
    "BEFT": {"": {"target_modules": ["q_proj", "v_proj"]}},
    "BOFT": {"": {"target_modules": MODULES, "boft_block_size": 8}},
    "C3A": {"": {"target_modules": MODULES, "block_size": 8}},
    "DEFT": {
        "": SMALL,
        "alpha": {**SMALL, "alpha": 7},
        "qr": {**SMALL, "decomposition_method": "qr"},
        "para": {**SMALL, "para": True},
    },
    "DELORA": {"": {**SMALL, "rank_pattern": {"q_proj": 2}}},
    "FOURIERFT": {"": {"target_modules": MODULES, "n_frequency": 50, "random_loc_seed": 11}},
    "FROD": {"": {"target_modules": MODULES, "sparse_rate": 0.1, "progressbar": False}},
    "GLORA": {
        "": SMALL,
        "vector": {**SMALL, "config_A_B": "vector", "config_C": "vector", "config_D_E": "vector"},
        "constant": {**SMALL, "config_A_B": "constant", "config_C": "none", "config_D_E": "constant"},
    },
    "GRALORA": {"": SMALL, "hybrid": {**SMALL, "hybrid_r": 2, "gralora_k": 4, "alpha": 5}},
    "HIRA": {"": SMALL},
    "HRA": {"": SMALL, "orthogonal": {**SMALL, "apply_GS": True}},
    "IA3": {"": {"target_modules": MODULES, "feedforward_modules": ["down_proj"]}},
    "LN_TUNING": {"": {"target_modules": ["input_layernorm", "norm"]}},
    "LOHA": {"": {**SMALL, "alpha": 6, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}},
    "LOKR": {
        "": {**SMALL, "alpha": 6},
        "products": {**SMALL, "r": 1, "alpha": 3, "decompose_both": True},
    },
    "MISS": {
        "": {**SMALL, "r": 5},
        "bat": {**SMALL, "init_weights": "bat"},
        "mini": {**SMALL, "init_weights": "mini", "mini_r": 8},
    },
    "OFT": {
        "": {"target_modules": MODULES, "oft_block_size": 8},
        "exact": {"target_modules": MODULES, "oft_block_size": 8, "use_cayley_neumann": False},
        "shared": {"target_modules": MODULES, "oft_block_size": 8, "block_share": True},
        "constrained": {"target_modules": MODULES, "oft_block_size": 8, "coft": True, "eps": 0.5},
        "two terms": {"target_modules": MODULES, "oft_block_size": 8, "num_cayley_neumann_terms": 2},
        "three terms": {"target_modules": MODULES, "oft_block_size": 8, "num_cayley_neumann_terms": 3},
        "eight terms": {"target_modules": MODULES, "oft_block_size": 8, "num_cayley_neumann_terms": 8},
    },
    "OSF": {"": {"target_modules": MODULES, "effective_rank": 4}},
    "PEANUT": {"": SMALL, "tanh": {**SMALL, "act_fn": "tanh", "scaling": 0.5}},
    "PVERA": {"": {**SMALL, "r": 8}},
    "RANDLORA": {"": {**SMALL, "randlora_alpha": 6}},
    "ROAD": {
        variant: {"target_modules": MODULES, "variant": variant, "group_size": 8}
        for variant in ("road_1", "road_2", "road_4")
    },
    "SHIRA": {"": SMALL},
    "SUPERTUNING": {
        "": {"target_modules": MODULES, "sparsity": 0.9},
        "with LoRA": {"target_modules": MODULES, "sparsity": 0.9, "r": 3, "lora_alpha": 5},
    },
    "TINYLORA": {
        "": {"target_modules": MODULES, "r": 3, "u": 6},
        "one vector": {"target_modules": MODULES, "r": 3, "u": 6, "weight_tying": 1.0},
        "tied": {"target_modules": MODULES, "r": 2, "u": 3, "weight_tying": 0.5, "projection_seed": 7},
        "embedding": {"target_modules": ["embed_tokens", "q_proj"], "r": 4, "u": 5},
    },
    "TRAINABLE_TOKENS": {"": {"target_modules": ["embed_tokens"], "token_indices": [3, 5]}},
    "UNILORA": {"": {**SMALL, "save_indices": True}},
    "VBLORA": {"": {**SMALL, "vector_length": 8, "num_vectors": 16}},
    "VERA": {"": {**SMALL, "r": 8}},
    "WAVEFT": {
        "": {"target_modules": MODULES, "n_frequency": 50},
        "sparse": {"target_modules": MODULES, "n_frequency": 50, "use_idwt": False},
    },
}
"""Arguments of the config of each kind that has an exact change, by variants."""

_ATTENTION = {"target_modules": ["c_attn"], "r": 4}
INPUT_FIRST: Mapping[str, dict[str, Any]] = {
    "ADALORA": {**VARIANTS["ADALORA"][""], "target_modules": ["c_attn"]},
    "DEFT": _ATTENTION,
    "FOURIERFT": {"target_modules": ["c_attn"], "n_frequency": 50},
    "GRALORA": _ATTENTION,
    "HIRA": _ATTENTION,
    "IA3": {"target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"]},
    "RANDLORA": _ATTENTION,
    "VBLORA": {**_ATTENTION, "vector_length": 8, "num_vectors": 16},
    "VERA": _ATTENTION,
}
"""Arguments for a base whose matrices are [in, out], with `fan_in_fan_out`."""

FIXED = ("randlora_A", "randlora_B", "w_norm", "indices", "zeros")


def train(base: Path, folder: Path, kind: str, settings: dict[str, Any]) -> Made:
    """Write an adapter over a base, its trainable numbers moved at random, and compute its logits."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    with quiet():
        torch.manual_seed(7)
        config = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)](**settings)
        model = peft.get_peft_model(load(base), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and not any(word in name for word in FIXED):
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder)
        return Made(base, folder, peft_logits(base, folder))
