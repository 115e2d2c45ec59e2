"""Adapters as mlx-lm writes them, over tiny bases of numbers from NumPy; and what mlx-lm computes with them.

In an environment with mlx-lm, `python mlx_cases.py FOLDER` writes the logits of the adapters in a folder that
`write_case` has filled: `tests/golden/README.md` has both commands. It imports nothing of this project.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

TOKENS = [[3, 17, 40, 5, 61, 9, 22, 8], [1, 2, 50, 33, 33, 7, 60, 12]]
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
}  # fmt: skip
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False, **SIZES}
MOE = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "tie_word_embeddings": False, "head_dim": 8,
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "norm_topk_prob": True, **SIZES,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "tie_word_embeddings": False,
    "num_local_experts": 4, "num_experts_per_tok": 2, **SIZES,
}  # fmt: skip

ATTENTION = {"self_attn.q_proj": (32, 32), "self_attn.v_proj": (32, 16)}
MLP = {"mlp.down_proj": (48, 32)}
EXPERTS = {"gate_proj": (32, 16), "up_proj": (32, 16), "down_proj": (16, 32)}
CASES: dict[str, tuple[dict[str, Any], str, dict[str, tuple[int, ...]]]] = {
    "lora": (LLAMA, "lora", {**ATTENTION, **MLP}),
    "dora": (LLAMA, "dora", {**ATTENTION, **MLP}),
    "embedding and head": (LLAMA, "lora", {"model.embed_tokens": (64, 32), "lm_head": (32, 64)}),
    "tied embedding": ({**LLAMA, "tie_word_embeddings": True}, "lora", {"model.embed_tokens": (64, 32), **ATTENTION}),
    "experts": (MOE, "lora", {**ATTENTION, **{f"mlp.switch_mlp.{n}": (4, *s) for n, s in EXPERTS.items()}}),
    "experts of mixtral": (
        MIXTRAL,
        "lora",
        {
            "block_sparse_moe.switch_mlp.gate_proj": (4, 32, 48), "block_sparse_moe.switch_mlp.up_proj": (4, 32, 48),
            "block_sparse_moe.switch_mlp.down_proj": (4, 48, 32),
        },
    ),
}  # fmt: skip
"""The base's config, the kind, and the adapted modules with [in, out], of an embedding [tokens, width]."""

RANK, SCALE = 4, 2.5


def adapter_tensors(name: str) -> dict[str, np.ndarray]:
    """Return the tensors of an adapter as mlx-lm has them."""
    _, kind, modules = CASES[name]
    generator = np.random.default_rng(len(name))
    tensors: dict[str, np.ndarray] = {}
    for module, (*experts, into, out) in modules.items():
        inside = not module.startswith(("model.", "lm_head"))
        places = [f"model.layers.{layer}.{module}" for layer in range(2)] if inside else [module]
        for place in places:
            shapes = [(*experts, RANK, into), (*experts, out, RANK)] if experts else [(into, RANK), (RANK, out)]
            for part, shape in zip(("lora_a", "lora_b"), shapes, strict=True):
                tensors[f"{place}.{part}"] = (generator.standard_normal(shape) * 0.2).astype(np.float32)
            if kind == "dora":
                tensors[f"{place}.m"] = (1 + generator.random(out)).astype(np.float32)
    return tensors


def adapter_config(name: str) -> dict[str, Any]:
    """Return what mlx-lm writes beside them, shortened."""
    settings = {"rank": RANK, "scale": SCALE, "dropout": 0.0, "keys": list(CASES[name][2])}
    return {
        "model": "somewhere/base", "train": True, "fine_tune_type": CASES[name][1], "num_layers": 2, "seed": 0,
        "lora_parameters": settings, "adapter_path": "adapters", "lr_schedule": None, "resume_adapter_file": None,
    }  # fmt: skip


def computed_by_mlx(folder: Path) -> list[list[float]]:
    """Return the last token's logits of each row."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    model, _ = load_model(folder / "base")
    model = load_adapters(model, str(folder / "adapter"))
    model.eval()
    logits = model(mx.array(TOKENS))[:, -1]
    return [[round(float(number), 5) for number in row] for row in logits.tolist()]


if __name__ == "__main__":
    folders = sorted(Path(sys.argv[1]).iterdir())
    print(json.dumps({folder.name: computed_by_mlx(folder) for folder in folders}, indent=1))
