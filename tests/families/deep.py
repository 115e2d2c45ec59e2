"""Tiny random models of many families whose layers can be stacked: six layers, of all kinds that they have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import transformers as t

LAYERS = 6

SIZES: dict[str, Any] = {
    "vocab_size": 70, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": LAYERS,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHARED = SIZES | {"num_key_value_heads": 2}
GROUPED = SHARED | {"head_dim": 8}
OLD: dict[str, Any] = {"vocab_size": 64, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED: dict[str, Any] = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 16, "n_group": 2,
    "topk_group": 1,
}  # fmt: skip
LATENT: dict[str, Any] = {
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
}  # fmt: skip
DELTA: dict[str, Any] = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
MAMBA: dict[str, Any] = {
    "mamba_n_groups": 1, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2,
    "mamba_chunk_size": 8,
}  # fmt: skip
STATES: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": LAYERS, "state_size": 4}
WINDOW = {"sliding_window": 4}


@dataclass(frozen=True)
class Deep:
    """A model and how its config is published: what older programs wrote in place of the lists of today."""

    make: Callable[[], Any]
    published: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


def deep(name: str, *, published: Mapping[str, Any] | None = None, drop: str = "", **config: Any) -> Deep:
    """A model by the start of its class's name, such as "Llama" or "Bert:MaskedLM"."""

    def make() -> Any:
        family, _, task = name.partition(":")
        kind = f"{family}LMHeadModel" if task == "LMHead" else f"{family}For{task or 'CausalLM'}"
        settings = f"{family}TextConfig" if hasattr(t, f"{family}TextConfig") else f"{family}Config"
        return getattr(t, kind)(getattr(t, settings)(**config))

    return Deep(make, published or {}, tuple(drop.split()))


PICTURE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip
TURNED = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "mrope_interleaved": True}}
SEEN: dict[str, Any] = {
    "depth": 2, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 4, "intermediate_size": 48, "patch_size": 4,
    "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
}  # fmt: skip

SEEING: dict[str, Deep] = {
    "gemma 3 that sees": Deep(
        lambda: t.Gemma3ForConditionalGeneration(
            t.Gemma3Config(text_config=GROUPED | WINDOW, vision_config=PICTURE, mm_tokens_per_image=1)
        )
    ),
    "qwen 3 vl": Deep(
        lambda: t.Qwen3VLForConditionalGeneration(
            t.Qwen3VLConfig(text_config=GROUPED | TURNED, vision_config=SEEN, image_token_id=68, video_token_id=69)
        )
    ),
    "qwen 3.5 that sees": Deep(
        lambda: t.Qwen3_5ForConditionalGeneration(
            t.Qwen3_5Config(
                text_config=GROUPED | DELTA | TURNED, vision_config=SEEN, image_token_id=68, video_token_id=69
            )
        )
    ),
    "mistral 3": Deep(
        lambda: t.Mistral3ForConditionalGeneration(
            t.Mistral3Config(
                text_config=GROUPED | {"model_type": "mistral"}, image_token_index=68,
                vision_config=PICTURE | {"model_type": "pixtral"},
            )
        )
    ),
    "llama 4 that sees": Deep(
        lambda: t.Llama4ForConditionalGeneration(
            t.Llama4Config(
                text_config=GROUPED | {"num_local_experts": 4, "attention_chunk_size": 4, "intermediate_size_mlp": 40},
                vision_config=PICTURE
                | {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32},
                image_token_index=68,
            )
        )
    ),
}  # fmt: skip
"""Models that also see: what slices cut is their language part."""

DEEP: dict[str, Deep] = {
    "llama": deep("Llama", **GROUPED),
    "llama with a tied head": deep("Llama", **GROUPED, tie_word_embeddings=True),
    "mistral": deep("Mistral", **GROUPED, **WINDOW),
    "ministral": deep("Ministral", **GROUPED, **WINDOW),
    "mixtral": deep("Mixtral", **GROUPED, num_local_experts=4),
    "qwen 2 with windows": deep(
        "Qwen2", **GROUPED, **WINDOW, use_sliding_window=True, max_window_layers=2, drop="layer_types"
    ),
    "qwen 2 moe": deep(
        "Qwen2Moe", **GROUPED, **EXPERTS, **WINDOW, use_sliding_window=True, max_window_layers=4,
        shared_expert_intermediate_size=16, decoder_sparse_step=2, drop="layer_types",
    ),
    "qwen 3": deep("Qwen3", **GROUPED),
    "qwen 3 with windows": deep("Qwen3", **GROUPED, **WINDOW, use_sliding_window=True, max_window_layers=3),
    "qwen 3 moe": deep("Qwen3Moe", **GROUPED, **EXPERTS, mlp_only_layers=[0, 3]),
    "qwen 3 next": deep(
        "Qwen3Next", **GROUPED, **EXPERTS, **DELTA, shared_expert_intermediate_size=16,
        full_attention_interval=3, published={"full_attention_interval": 3}, drop="layer_types", mlp_only_layers=[1],
    ),
    "qwen 3.5": deep("Qwen3_5", **GROUPED, **DELTA, drop="layer_types"),
    "qwen 3.5 moe": deep("Qwen3_5Moe", **GROUPED, **EXPERTS, **DELTA, shared_expert_intermediate_size=16),
    "olmoe": deep("Olmoe", **SIZES, num_experts=4, num_experts_per_tok=2),
    "olmo": deep("Olmo", **SIZES),
    "olmo 2": deep("Olmo2", **SIZES),
    "olmo 3": deep("Olmo3", **SIZES, **WINDOW, drop="layer_types"),
    "olmo hybrid": deep("OlmoHybrid", **SIZES, **DELTA, drop="layer_types"),
    "gpt-oss": deep("GptOss", **GROUPED, **WINDOW, num_local_experts=4, num_experts_per_tok=2, drop="layer_types"),
    "llama 4": deep(
        "Llama4", **GROUPED, num_local_experts=4, intermediate_size_mlp=40, attention_chunk_size=4,
        interleave_moe_layer_step=2, drop="layer_types no_rope_layers moe_layers",
    ),
    "smollm 3": deep("SmolLM3", **GROUPED, drop="layer_types no_rope_layers"),
    "gemma": deep("Gemma", **GROUPED),
    "gemma 2": deep("Gemma2", **GROUPED, **WINDOW, drop="layer_types"),
    "gemma 2 with a list": deep("Gemma2", **GROUPED, **WINDOW),
    "vaultgemma": deep("VaultGemma", **GROUPED, **WINDOW, drop="layer_types"),
    "gemma 3": deep("Gemma3", **GROUPED, **WINDOW, published={"sliding_window_pattern": 3}, drop="layer_types"),
    "gemma 3n": deep(
        "Gemma3n", **GROUPED, **WINDOW, hidden_size_per_layer_input=8, vocab_size_per_layer_input=70, laurel_rank=4,
        num_kv_shared_layers=0, altup_num_inputs=2,
    ),
    "gemma 3n that shares keys": deep(
        "Gemma3n", **GROUPED, **WINDOW, hidden_size_per_layer_input=8, vocab_size_per_layer_input=70, laurel_rank=4,
        num_kv_shared_layers=2, altup_num_inputs=2,
        layer_types=["sliding_attention", "full_attention"] * 3,
    ),
    "gemma 4": deep(
        "Gemma4", **GROUPED, **WINDOW, hidden_size_per_layer_input=8, vocab_size_per_layer_input=70, global_head_dim=16,
    ),
    "gemma 4 that shares keys": deep(
        "Gemma4", **GROUPED, **WINDOW, hidden_size_per_layer_input=8, vocab_size_per_layer_input=70, global_head_dim=16,
        num_kv_shared_layers=2, layer_types=["sliding_attention", "full_attention"] * 3,
    ),
    "cohere": deep("Cohere", **SIZES),
    "cohere 2": deep("Cohere2", **SIZES, **WINDOW, drop="layer_types"),
    "exaone 4": deep("Exaone4", **GROUPED, **WINDOW, published={"sliding_window_pattern": 3}, drop="layer_types"),
    "phi 3": deep("Phi3", **SIZES, **WINDOW),
    "phi": deep("Phi", **SIZES),
    "phimoe": deep("Phimoe", **SHARED, num_local_experts=4),
    "starcoder 2": deep("Starcoder2", **SIZES, **WINDOW),
    "stablelm": deep("StableLm", **SHARED),
    "granite": deep("Granite", **SIZES),
    "granite moe": deep("GraniteMoe", **SIZES, num_local_experts=4),
    "granite hybrid": deep(
        "GraniteMoeHybrid", **SIZES, **MAMBA, num_local_experts=4, shared_intermediate_size=24,
        layer_types=["mamba", "mamba", "attention"] * 2,
    ),
    "glm 4": deep("Glm4", **GROUPED),
    "glm 4 moe": deep("Glm4Moe", **GROUPED, **ROUTED, first_k_dense_replace=2),
    "nemotron": deep("Nemotron", **SHARED),
    "nemotron h": deep(
        "NemotronH", **{key: GROUPED[key] for key in GROUPED if key != "num_hidden_layers"}, **ROUTED,
        layers_block_type=["mamba", "moe", "attention", "mlp", "mamba", "attention"], mamba_num_heads=8,
        mamba_head_dim=8, ssm_state_size=8, n_groups=1, moe_shared_expert_intermediate_size=16,
    ),
    "gpt 2": deep("GPT2:LMHead", **OLD),
    "gpt 2 scaled by layer": deep("GPT2:LMHead", **OLD, scale_attn_by_inverse_layer_idx=True),
    "gpt-j": deep("GPTJ", **OLD, rotary_dim=4),
    "gpt-neo": deep(
        "GPTNeo", vocab_size=64, hidden_size=32, num_layers=LAYERS, num_heads=4, intermediate_size=48, window_size=4,
        attention_types=[[["global", "local"], 3]], max_position_embeddings=64,
    ),
    "gpt-neox": deep("GPTNeoX", **SIZES),
    "opt": deep("OPT", **{key: SIZES[key] for key in SIZES if key != "intermediate_size"}, ffn_dim=48,
                word_embed_proj_dim=32),
    "falcon": deep("Falcon", **SIZES),
    "bloom": deep("Bloom", vocab_size=64, hidden_size=32, n_layer=LAYERS, n_head=4),
    "mpt": deep("Mpt", vocab_size=64, d_model=32, n_layers=LAYERS, n_heads=4, max_seq_len=64),
    "deepseek v2": deep("DeepseekV2", **SIZES, **LATENT, **ROUTED, first_k_dense_replace=1),
    "deepseek v3": deep("DeepseekV3", **SIZES, **LATENT, **ROUTED, first_k_dense_replace=2),
    "dots 1": deep("Dots1", **GROUPED, **ROUTED, **WINDOW, first_k_dense_replace=1, max_window_layers=3,
                   drop="layer_types"),
    "ernie 4.5 moe": deep("Ernie4_5_Moe", **SIZES, moe_num_experts=4, moe_k=2, moe_intermediate_size=16,
                          moe_layer_start_index=1, moe_layer_end_index=4),
    "hunyuan": deep("HunYuanDenseV1", **GROUPED),
    "minimax": deep("MiniMax", **GROUPED, num_local_experts=4, block_size=8, drop="layer_types"),
    "minimax m2": deep("MiniMaxM2", **GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "mamba": deep("Mamba", **STATES),
    "mamba 2": deep("Mamba2", **STATES, num_heads=8, head_dim=8, n_groups=2, chunk_size=8),
    "falcon mamba": deep("FalconMamba", **STATES),
    "falcon h1": deep("FalconH1", **GROUPED, **MAMBA, mamba_d_ssm=64),
    "jamba": deep(
        "Jamba", **SIZES, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, attn_layer_period=3,
        attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, mamba_d_state=4, mamba_dt_rank=4,
        use_mamba_kernels=False,
    ),
    "bamba": deep("Bamba", **SHARED, **MAMBA, attn_layer_indices=[1, 4]),
    "recurrent gemma": deep(
        "RecurrentGemma", **{key: SIZES[key] for key in SIZES if key != "max_position_embeddings"}, lru_width=32,
        attention_window_size=4, num_key_value_heads=1,
    ),
    "lfm 2": deep("Lfm2", **SIZES, num_key_value_heads=2, full_attn_idxs=[2, 4], block_multiple_of=8,
                  drop="layer_types"),
    "lfm 2 moe": deep("Lfm2Moe", **SIZES, **EXPERTS, num_key_value_heads=2, num_dense_layers=2,
                      layer_types=["conv", "conv", "full_attention"] * 2),
    "kimi linear": deep(
        "KimiLinear", **SIZES, **LATENT, num_experts=4, num_experts_per_token=2, moe_intermediate_size=16,
        linear_num_heads=4, linear_head_dim=8, drop="layer_types mlp_layer_types",
    ),
    "rwkv": deep("Rwkv", **STATES, attention_hidden_size=32, intermediate_size=48, rescale_every=0),
    "afmoe": deep("Afmoe", **GROUPED, **WINDOW, **EXPERTS, num_dense_layers=2, num_shared_experts=1,
                  global_attn_every_n_layers=3, drop="layer_types"),
    "mimo v2": deep("MiMoV2Flash", **GROUPED, **WINDOW, **ROUTED, v_head_dim=8, drop="layer_types mlp_layer_types"),
    "cwm": deep("Cwm", **GROUPED, **WINDOW, drop="layer_types"),
    "arcee": deep("Arcee", **GROUPED),
    "seed oss": deep("SeedOss", **GROUPED),
    "apertus": deep("Apertus", **SIZES),
    "helium": deep("Helium", **GROUPED),
    "diffllama": deep("DiffLlama", **SIZES),
    "bert": deep("Bert:MaskedLM", **SIZES),
    "roberta": deep("Roberta:MaskedLM", **SIZES),
    "modernbert": deep("ModernBert:MaskedLM", **SIZES, local_attention=4, drop="layer_types", cls_token_id=1,
                       sep_token_id=2),
    "a family without a rule": deep("Laguna", **GROUPED, **WINDOW, **EXPERTS, shared_expert_intermediate_size=16,
                                    layer_types=["full_attention", "sliding_attention"] * 3),
}  # fmt: skip
