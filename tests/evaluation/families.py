"""Tiny random language models of many families, of which each computes something that others do not.

Windows are 8 tokens and convolutions 4, so that ordinary questions reach past them. What begins only behind FAR tokens
does not show in a trial of a few.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM

VOCABULARY = 258
PLACES = 160
WINDOW = 8
FAR = 24

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": PLACES, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": None,
}  # fmt: skip
GROUPED = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
OLD = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": PLACES}
MIXED = GROUPED | {"sliding_window": WINDOW}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {
    "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2,
    "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "head_dim": 4, "num_key_value_heads": 4,
}  # fmt: skip
MAMBA = {"mamba_d_state": 4, "mamba_dt_rank": 4, "mamba_d_conv": 4, "mamba_expand": 2}
MAMBA_2 = {
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 4, "mamba_d_conv": 4,
    "mamba_expand": 2, "mamba_chunk_size": 8,
}  # fmt: skip
GATED_DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4, "full_attention_interval": 3,
}  # fmt: skip
STATES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 4, "pad_token_id": None}
TWO_SIDED: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": PLACES,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
TWO_VOCABULARIES = {name: value for name, value in TWO_SIDED.items() if name != "vocab_size"} | {
    "src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY, "langs": ["en", "de"],
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
PICTURE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip

SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
TURNED = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
LINEAR_TYPES = ["linear_attention", "full_attention", "linear_attention"]
MIDDLE = {"layer_types": ["mamba", "attention", "mamba"]}
PER_LAYER = {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
NESTED = PER_LAYER | {
    "num_kv_shared_layers": 1, "laurel_rank": 4, "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0] * 3,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
}  # fmt: skip
CHUNKED = {
    "attention_chunk_size": WINDOW, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2,
    "num_hidden_layers": 4,
}  # fmt: skip
DELTA = {
    "linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
PERIODS = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1}
SHARED_BLOCKS = {
    "mamba_d_state": 4, "mamba_headdim": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "num_key_value_heads": 4,
    "attention_head_dim": 16, "num_mem_blocks": 1, "layers_block_type": ["mamba", "hybrid", "mamba"],
    "use_mem_rope": True, "chunk_size": 8,
}  # fmt: skip
NEMOTRON = {
    "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1, "ssm_state_size": 4, "chunk_size": 8,
    "hybrid_override_pattern": "M*-", "layers_block_type": ["mamba", "attention", "mlp"],
}  # fmt: skip
RECURRENT = {"attention_window_size": WINDOW, "lru_width": 32, "conv1d_width": 4, "num_key_value_heads": 1}
LOCAL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": WINDOW,
    "max_position_embeddings": PLACES, "attention_types": [[["global", "local"], 1]],
}  # fmt: skip
DROPPING = {"num_experts": 4, "expert_capacity": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
ROUTED = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
INDEXED = {"index_topk": FAR, "index_head_dim": 8, "index_n_heads": 16}
COMPRESSED = {
    "num_key_value_heads": 1, "head_dim": 16, "q_lora_rank": 8, "o_lora_rank": 8, "o_groups": 2, "hc_mult": 2,
    "sliding_window": FAR, "compress_rates": {"compressed_sparse_attention": 20, "heavily_compressed_attention": FAR},
    "index_n_heads": 16, "index_head_dim": 16, "index_topk": 4, "num_nextn_predict_layers": 0,
    "layer_types": ["heavily_compressed_attention", "compressed_sparse_attention", "sliding_attention"],
    "mlp_layer_types": ["hash_moe", "moe", "moe"],
}  # fmt: skip
RELATIVE = {
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8, "d_rel": 4, "rel_extent": FAR,
    "sliding_window_size": FAR, "log_scaling_n_floor": FAR, "conv_kernel_size": 4, "logits_mup_width_multiplier": 2.0,
    "layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding"], "mlp_layer_types": ["dense", "sparse", "sparse"],
}  # fmt: skip
BLOCKS = {
    "index_block_size": FAR // 2, "index_topk_blocks": 2, "index_local_blocks": 1, "index_n_heads": 2,
    "index_head_dim": 8, "rotary_dim": 4, "dense_intermediate_size": 48, "shared_intermediate_size": 16,
    "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
    "mlp_layer_types": ["dense", "sparse", "sparse"],
}  # fmt: skip
SCALED = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": FAR,
    "llama_4_scaling_beta": 0.5,
}  # fmt: skip
CLIP = PICTURE | {"model_type": "clip_vision_model"}
SEEING = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 4}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", GROUPED),
    "llama, rotation by length": ("llama", GROUPED | {"max_position_embeddings": 32, "rope_parameters": DYNAMIC}),
    "mistral": ("mistral", MIXED),
    "mistral, wide window": ("mistral", GROUPED | {"sliding_window": 48}),
    "mixtral": ("mixtral", MIXED | EXPERTS),
    "ministral": ("ministral", MIXED),
    "qwen 2": ("qwen2", GROUPED),
    "qwen 2 with windows": ("qwen2", MIXED | {"use_sliding_window": True, "max_window_layers": 1}),
    "qwen 3": ("qwen3", GROUPED),
    "qwen 3 of experts": ("qwen3_moe", GROUPED | EXPERTS),
    "qwen 3 next": ("qwen3_next", GROUPED | EXPERTS | GATED_DELTA | {"shared_expert_intermediate_size": 16}),
    "qwen 3.5": ("qwen3_5_text", GROUPED | GATED_DELTA),
    "gemma": ("gemma", GROUPED),
    "gemma 2": ("gemma2", MIXED | {"query_pre_attn_scalar": 8}),
    "gemma 3": ("gemma3_text", MIXED | {"query_pre_attn_scalar": 8, "sliding_window_pattern": 3}),
    "gemma 3n": ("gemma3n_text", MIXED | NESTED),
    "gemma 4": ("gemma4_text", MIXED | PER_LAYER | {"global_head_dim": 8, "num_global_key_value_heads": 2}),
    "gpt-oss": ("gpt_oss", MIXED | EXPERTS),
    "llama 4": ("llama4_text", GROUPED | EXPERTS | CHUNKED),
    "phi": ("phi", SIZES),
    "phi 3": ("phi3", MIXED | {"pad_token_id": 2}),
    "olmo 2": ("olmo2", GROUPED),
    "olmo 3": ("olmo3", MIXED),
    "olmo hybrid": ("olmo_hybrid", GROUPED | DELTA),
    "olmoe": ("olmoe", GROUPED | EXPERTS),
    "cohere": ("cohere", GROUPED),
    "cohere 2": ("cohere2", MIXED),
    "exaone 4": ("exaone4", MIXED | {"sliding_window_pattern": 3}),
    "smollm 3": ("smollm3", GROUPED | {"no_rope_layer_interval": 2}),
    "granite": ("granite", GROUPED),
    "granite hybrid": ("granitemoehybrid", GROUPED | MAMBA_2 | EXPERTS | MIDDLE | {"shared_intermediate_size": 16}),
    "bamba": ("bamba", GROUPED | MAMBA_2 | {"attn_layer_indices": [1]}),
    "falcon h1": ("falcon_h1", GROUPED | MAMBA_2 | {"mamba_d_ssm": 64}),
    "jamba": ("jamba", GROUPED | MAMBA | EXPERTS | PERIODS),
    "zamba 2": ("zamba2", SIZES | SHARED_BLOCKS),
    "nemotron h": ("nemotron_h", GROUPED | NEMOTRON),
    "lfm 2": ("lfm2", GROUPED | {"conv_L_cache": 3, "layer_types": ["conv", "full_attention", "conv"]}),
    "minimax": ("minimax", GROUPED | EXPERTS | {"block_size": 4, "layer_types": LINEAR_TYPES}),
    "recurrent gemma": ("recurrent_gemma", SIZES | RECURRENT),
    "mamba": ("mamba", STATES),
    "mamba 2": ("mamba2", STATES | {"num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8}),
    "falcon mamba": ("falcon_mamba", STATES),
    "rwkv": ("rwkv", SMALL | {"attention_hidden_size": 32, "intermediate_size": 48, "context_length": PLACES}),
    "xlstm": ("xlstm", SMALL | {"num_blocks": 2, "num_heads": 4, "chunk_size": 16}),
    "gpt 2": ("gpt2", OLD),
    "gpt-neo": ("gpt_neo", LOCAL),
    "gpt-j": ("gptj", OLD | {"rotary_dim": 4}),
    "gpt-neox": ("gpt_neox", SIZES),
    "gpt bigcode": ("gpt_bigcode", OLD),
    "opt": ("opt", SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 2}),
    "bloom": ("bloom", SMALL | {"n_layer": 3, "n_head": 4}),
    "mpt": ("mpt", {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": PLACES}),
    "falcon": ("falcon", SIZES | {"new_decoder_architecture": False}),
    "falcon with slopes": ("falcon", SIZES | {"alibi": True, "new_decoder_architecture": False}),
    "stablelm": ("stablelm", GROUPED),
    "starcoder 2": ("starcoder2", MIXED),
    "deepseek 3": ("deepseek_v3", SIZES | LATENT),
    "deepseek 2": ("deepseek_v2", SIZES | LATENT | {"topk_method": "greedy"}),
    "deepseek 3.2": ("deepseek_v32", SIZES | LATENT | INDEXED),
    "deepseek 4": ("deepseek_v4", SIZES | ROUTED | COMPRESSED),
    "doge": ("doge", GROUPED | {"keep_window_size": FAR}),
    "inkling": ("inkling_text", GROUPED | ROUTED | RELATIVE),
    "minimax m3": ("minimax_m3_vl_text", GROUPED | EXPERTS | BLOCKS),
    "ministral 3": ("ministral3", GROUPED | {"rope_parameters": SCALED}),
    "glm 4": ("glm4", GROUPED | {"pad_token_id": 2}),
    "diffllama": ("diffllama", GROUPED),
    "jetmoe": ("jetmoe", SIZES | EXPERTS | {"num_key_value_heads": 2, "kv_channels": 8}),
    "t5": ("t5", T5),
    "switch transformers": ("switch_transformers", T5 | DROPPING),
    "bart": ("bart", TWO_SIDED),
    "pegasus": ("pegasus", TWO_SIDED),
    "bigbird pegasus": ("bigbird_pegasus", TWO_SIDED),
    "fsmt": ("fsmt", TWO_VOCABULARIES),
    "gemma 3 that sees": (
        "gemma3",
        {"text_config": MIXED | {"query_pre_attn_scalar": 8}, "vision_config": PICTURE, "mm_tokens_per_image": 4},
    ),
    "llava": (
        "llava",
        {"text_config": GROUPED | {"model_type": "llama"}, "vision_config": CLIP, "image_token_index": 250},
    ),
    "qwen 2 that sees": ("qwen2_vl", {"text_config": GROUPED | {"rope_parameters": TURNED}, "vision_config": SEEING}),
}


def make_network(family: str, seed: int = 0) -> Any:
    """Make a random network of a family, sure enough of itself for its choices not to be ties."""
    kind, settings = FAMILIES[family]
    config = AutoConfig.for_model(kind, **settings)
    torch.manual_seed(seed)
    for loader in (AutoModelForSeq2SeqLM, AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in loader._model_mapping:
            network = loader.from_config(config).eval()
            break
    else:
        raise LookupError(f"transformers writes no text with {kind}")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.15 * torch.randn_like(parameter))
    return network
