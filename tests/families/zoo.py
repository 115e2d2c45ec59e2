"""Tiny random models of many families, made by transformers: two layers, 32 wide, 64 tokens."""

from collections.abc import Callable
from typing import Any

import transformers as t

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
OLD = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
TWO_SIDED: dict[str, Any] = {
    "vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
PICTURE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip
SPOKEN = TWO_SIDED | {
    "num_mel_bins": 8, "max_source_positions": 30, "max_target_positions": 32, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip
LATENT = {
    "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2,
    "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "head_dim": 4, "num_key_value_heads": 4,
}  # fmt: skip
HYBRID = {
    "num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
    "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
TURNED = {"rope_parameters": {"rope_type": "default", "type": "mrope", "mrope_section": [1, 1, 2]}}
SEEING = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 4}
STATES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
HEARD = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": (16, 16), "conv_stride": (2, 2), "conv_kernel": (3, 3), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
LATTICE = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}

Maker = Callable[[], Any]

FAMILIES: dict[str, Maker] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "llama with a tied head": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "llama classifier": lambda: t.LlamaForSequenceClassification(t.LlamaConfig(**GROUPED, num_labels=3)),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**GROUPED)),
    "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**GROUPED, num_local_experts=4)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**GROUPED, tie_word_embeddings=True)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GROUPED, head_dim=8)),
    "qwen3 moe": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**GROUPED | EXPERTS)),
    "olmoe": lambda: t.OlmoeForCausalLM(t.OlmoeConfig(**GROUPED, num_experts=4)),
    "gpt-oss": lambda: t.GptOssForCausalLM(t.GptOssConfig(**GROUPED, head_dim=8, num_local_experts=4)),
    "llama 4": lambda: t.Llama4ForCausalLM(t.Llama4TextConfig(**GROUPED, head_dim=8, num_local_experts=4)),
    "gemma 2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**GROUPED, head_dim=8)),
    "gemma 3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GROUPED, head_dim=8)),
    "gemma 3 with vision": lambda: t.Gemma3ForConditionalGeneration(
        t.Gemma3Config(text_config=GROUPED | {"head_dim": 8}, vision_config=PICTURE, mm_tokens_per_image=1)
    ),
    "phi 3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**GROUPED, pad_token_id=0)),
    "gpt 2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**OLD)),
    "gpt-j": lambda: t.GPTJForCausalLM(t.GPTJConfig(**OLD, rotary_dim=4)),
    "gpt-neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SIZES)),
    "opt": lambda: t.OPTForCausalLM(t.OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32)),
    "falcon": lambda: t.FalconForCausalLM(t.FalconConfig(**SIZES)),
    "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)),
    "mpt": lambda: t.MptForCausalLM(t.MptConfig(**LATTICE)),
    "t5": lambda: t.T5ForConditionalGeneration(
        t.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    ),
    "bart": lambda: t.BartForConditionalGeneration(t.BartConfig(**TWO_SIDED, max_position_embeddings=64)),
    "bert": lambda: t.BertForMaskedLM(t.BertConfig(**SIZES)),
    "roberta": lambda: t.RobertaForMaskedLM(t.RobertaConfig(**SIZES)),
    "deberta": lambda: t.DebertaV2ForMaskedLM(t.DebertaV2Config(**SIZES)),
    "whisper": lambda: t.WhisperForConditionalGeneration(t.WhisperConfig(**SPOKEN)),
    "wav2vec2": lambda: t.Wav2Vec2ForCTC(t.Wav2Vec2Config(**HEARD)),
    "vit": lambda: t.ViTForImageClassification(t.ViTConfig(**PICTURE)),
    "clip": lambda: t.CLIPModel(t.CLIPConfig(text_config=SIZES, vision_config=PICTURE, projection_dim=16)),
    "llava": lambda: t.LlavaForConditionalGeneration(
        t.LlavaConfig(
            text_config=GROUPED | {"model_type": "llama"}, vision_config=PICTURE | {"model_type": "clip_vision_model"}
        )
    ),
    "qwen2-vl": lambda: t.Qwen2VLForConditionalGeneration(
        t.Qwen2VLConfig(text_config=GROUPED | TURNED, vision_config=SEEING)
    ),
    "mamba": lambda: t.MambaForCausalLM(t.MambaConfig(**STATES)),
    "mamba 2": lambda: t.Mamba2ForCausalLM(t.Mamba2Config(**STATES, num_heads=8, head_dim=8, n_groups=2)),
    "jamba": lambda: t.JambaForCausalLM(t.JambaConfig(**GROUPED | HYBRID)),
    "rwkv": lambda: t.RwkvForCausalLM(t.RwkvConfig(**STATES | {"attention_hidden_size": 32, "intermediate_size": 48})),
    "deepseek v3": lambda: t.DeepseekV3ForCausalLM(t.DeepseekV3Config(**SIZES | LATENT)),
}
