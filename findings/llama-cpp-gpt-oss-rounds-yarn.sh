#!/bin/sh
# llama.cpp turns the positions of GPT-OSS by other angles than the model says.
#
# Versions:  xllamacpp 2026.10.11549 (llama.cpp b11549), gguf 0.19.0, transformers 5.24.0, torch 2.13.0 (200 MB for
#            processors, several GB where there is CUDA)
# Expected:  A GGUF file of a GPT-OSS gives the logits of the model. The config.json of openai/gpt-oss-20b says
#            `"truncate": false`: YaRN goes over from one way of turning to the other between the dimensions 8.09 and
#            17.4, as OpenAI's own code does.
# Observed:  llama.cpp rounds the two to 8 and 18 (ggml_rope_yarn_corr_dims) in every model, and no key of a GGUF file
#            says otherwise; its converter drops `truncate` without a word. With `"truncate": true` both programs agree.
#            vLLM did the same until its issue 27722.
# Instead:   Compare files of GPT-OSS with a model whose config says `"truncate": true`; where the last digit counts,
#            score with transformers.
#
# Seen, the largest difference of a token's log-probability after 400 tokens, of a tiny random model:
#   truncate true: 7.8e-06
#   truncate false, as in openai/gpt-oss-20b: 0.022
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet xllamacpp==2026.10.11549 gguf==0.19.0 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PY'
import json
import sys
import urllib.request
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
import xllamacpp

work = Path(sys.argv[1])
VOCABULARY, HIDDEN, INNER, LAYERS, EXPERTS = 128, 64, 64, 4, 4
PROMPT = [3 + 7 * place % 120 for place in range(400)]
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "num_local_experts": EXPERTS,
    "num_experts_per_tok": 2, "sliding_window": 128, "max_position_embeddings": 131072,
}
YARN = {
    "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "original_max_position_embeddings": 4096,
}
NAMES = {
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
    "self_attn.sinks": "attn_sinks.weight", "mlp.router.weight": "ffn_gate_inp.weight",
    "mlp.router.bias": "ffn_gate_inp.bias", "mlp.experts.down_proj_bias": "ffn_down_exps.bias",
    **{f"self_attn.{own}_proj.{kind}": f"attn_{theirs}.{kind}"
       for own, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output")) for kind in ("weight", "bias")},
}
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight"}


def tensors_of(model):
    """Rename the tensors; experts lie the other way round, with gate and up in turn."""
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if name in WHOLE:
            yield WHOLE[name], array
            continue
        _, _, layer, rest = name.split(".", 3)
        if rest in NAMES:
            yield f"blk.{layer}.{NAMES[rest]}", array
        elif rest == "mlp.experts.down_proj":
            yield f"blk.{layer}.ffn_down_exps.weight", array.swapaxes(1, 2)
        else:
            ending = "bias" if rest.endswith("_bias") else "weight"
            turned = array if ending == "bias" else array.swapaxes(1, 2)
            yield f"blk.{layer}.ffn_gate_exps.{ending}", turned[:, ::2]
            yield f"blk.{layer}.ffn_up_exps.{ending}", turned[:, 1::2]


def write(model, file):
    writer = gguf.GGUFWriter(file, "gpt-oss")
    writer.add_block_count(LAYERS)
    writer.add_context_length(131072)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_expert_feed_forward_length(INNER)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(64)
    writer.add_value_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_sliding_window(128)
    writer.add_rope_freq_base(150000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(32.0)
    writer.add_rope_scaling_orig_ctx_len(4096)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    letters = [chr(code) for code in (*range(33, 127), *range(161, 172))]
    writer.add_token_list((letters + [f"<{number}>" for number in range(VOCABULARY)])[:VOCABULARY])
    writer.add_token_merges(["! !"])
    writer.add_token_types([gguf.TokenType.NORMAL] * VOCABULARY)
    writer.add_eos_token_id(127)
    writer.add_vocab_size(VOCABULARY)
    for name, array in tensors_of(model):
        writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def of_llama_cpp(file):
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, -1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    asked = {"prompt": PROMPT, "n_predict": 1, "n_probs": VOCABULARY, "temperature": 0}
    request = urllib.request.Request(
        f"{server.listening_address}/completion", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        listed = json.load(answer)["completion_probabilities"][0]["top_logprobs"]
    row = np.zeros(VOCABULARY)
    for token in listed:
        row[token["id"]] = token["logprob"]
    return row


def largest_difference(truncate):
    config = transformers.GptOssConfig(**SHAPE, rope_parameters={**YARN, "truncate": truncate})
    torch.manual_seed(0)
    model = transformers.GptOssForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.15)
    file = work / f"{truncate}.gguf"
    write(model, file)
    with torch.no_grad():
        expected = model(torch.tensor([PROMPT])).logits[0, -1].double().log_softmax(-1).numpy()
    return float(np.abs(of_llama_cpp(file) - expected).max())


rounded, unrounded = largest_difference(True), largest_difference(False)
print(f"truncate true: {rounded:.2g}")
print(f"truncate false, as in openai/gpt-oss-20b: {unrounded:.2g}")
if rounded > 1e-4 or unrounded < 0.001:
    raise SystemExit("changed: the bounds are no longer rounded, or the models differ with rounded ones")
PY
"$work/venv/bin/python" "$work/show.py" "$work"
