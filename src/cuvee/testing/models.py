"""Tiny model folders made from a seed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.checkpoint.dtypes import NUMPY, name_of
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}


def llama_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a Llama model's tensors."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.self_attn.q_proj.weight": (hidden, hidden),
            f"{name}.self_attn.k_proj.weight": (keys, hidden),
            f"{name}.self_attn.v_proj.weight": (keys, hidden),
            f"{name}.self_attn.o_proj.weight": (hidden, hidden),
            f"{name}.mlp.gate_proj.weight": (inner, hidden),
            f"{name}.mlp.up_proj.weight": (inner, hidden),
            f"{name}.mlp.down_proj.weight": (hidden, inner),
            f"{name}.input_layernorm.weight": (hidden,),
            f"{name}.post_attention_layernorm.weight": (hidden,),
        }
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}


def random_weights(
    seed: int,
    *,
    base: Mapping[str, np.ndarray] | None = None,
    config: Mapping[str, Any] = TINY_LLAMA,
    change: float = 0.02,
) -> dict[str, np.ndarray]:
    """Return float32 weights of a random model, or of a fine-tune of `base` that leaves a third as is."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in llama_shapes(config).items():
        noise = generator.standard_normal(shape, np.float32)
        if base is None:
            weights[name] = noise * np.float32(0.1) + np.float32(len(shape) == 1)
        else:
            touched = generator.random(shape) > 1 / 3
            weights[name] = base[name] + np.where(touched, noise * np.float32(change), np.float32(0))
    return weights


def write_model(
    folder: Path,
    weights: Mapping[str, np.ndarray],
    *,
    config: Mapping[str, Any] = TINY_LLAMA,
    dtype: str = "F32",
    shard_bytes: int = 1 << 40,
) -> Path:
    """Write a model folder as transformers would read it: config.json and sharded safetensors of one type."""
    arrays = {n: a.astype(NUMPY[dtype]) if a.dtype.kind == "f" else a for n, a in weights.items()}
    tensors = [OutputTensor(name, name_of(a.dtype), a.shape) for name, a in arrays.items()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with CheckpointWriter(folder, lay_out(tensors, shard_bytes)) as writer:
        for name, array in arrays.items():
            writer.write(name, 0, np.ascontiguousarray(array).reshape(-1))
        writer.write_file("config.json", json.dumps(dict(config), indent=2))
        writer.finish()
    return folder
