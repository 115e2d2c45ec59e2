#!/bin/sh
# Without a base_model mergekit takes config, tokenizer and chat template from any of the models, another one in each run.
#
# Versions:  mergekit 0.1.5, transformers 5.24.0, torch 2.13.0 (large: torch alone is 1 GB or more)
# Expected:  The same recipe over the same files gives the same model. `linear`, `nuslerp`, `karcher` and `passthrough` need
#            no base_model; one expects the first model of the recipe to stand in.
# Observed:  config.json, tokenizer and chat template are those of the first model of a Python set. Its order hangs on the
#            hashes of strings, which Python draws anew for each process. The weights are the same each time, so that two
#            runs differ in rotary base, end token and template, and neither says so.
# Instead:   Name a base_model where the method takes one; else set PYTHONHASHSEED, look, and put the files right by hand.
#
# Seen, for a linear merge of two models with eight seeds of Python's hashes:
#   seed 0: rope_theta 500000, end token 2, template of the second
#   seed 1: rope_theta 500000, end token 2, template of the second
#   seed 2: rope_theta 10000, end token 1, template of the first
#   seeds 3 to 6 as 2, seed 7 as 0
#   2 kinds of config and template, 1 of weights
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mergekit==0.1.5 transformers==5.24.0 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
cat >make.py <<'PY'
"""Writes two fine-tunes of one shape that differ in rotary base, end token and chat template, and a recipe."""

from pathlib import Path

import tokenizers
import torch
import transformers

for name, rope_theta, end, seed in (("first", 10000.0, 1, 1), ("second", 500000.0, 2, 2)):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        eos_token_id=end, rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
    )
    transformers.LlamaForCausalLM(config).save_pretrained(name)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(8)}, unk_token="w0"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", eos_token=f"w{end}")
    tokenizer.chat_template = "{{ 'template of the " + name + "' }}"
    tokenizer.save_pretrained(name)
Path("recipe.yaml").write_text("""\
merge_method: linear
models:
  - {model: ./first, parameters: {weight: 0.5}}
  - {model: ./second, parameters: {weight: 0.5}}
dtype: float32
""")
PY
cat >show.py <<'PY'
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import safetensors.torch
import transformers

COMMAND = Path(sys.executable).with_name("mergekit-yaml")
CHAT = [{"role": "user", "content": "w3"}]
parents, weights = set(), set()
for seed in range(8):
    out = f"merged-{seed}"
    environment = os.environ | {"PYTHONHASHSEED": str(seed)}
    run = subprocess.run([COMMAND, "recipe.yaml", out, "--no-write-model-card"], capture_output=True, text=True, env=environment)
    if run.returncode:
        raise SystemExit(run.stderr[-600:])
    config = transformers.AutoConfig.from_pretrained(out)
    template = transformers.AutoTokenizer.from_pretrained(out).apply_chat_template(CHAT, tokenize=False)
    parent = f"rope_theta {config.rope_parameters['rope_theta']:.0f}, end token {config.eos_token_id}, {template}"
    print(f"seed {seed}: {parent}")
    parents.add(parent)
    tensors = safetensors.torch.load_file(next(Path(out).glob("*.safetensors")))
    weights.add(hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest())
print(f"{len(parents)} kinds of config and template, {len(weights)} of weights")
if len(weights) != 1:
    raise SystemExit("changed: the weights are not the same each time")
if len(parents) != 2:
    raise SystemExit("changed: config and template are of the same parent each time")
PY
"$work/venv/bin/python" make.py
"$work/venv/bin/python" show.py
