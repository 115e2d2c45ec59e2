#!/bin/sh
# An adapter whose patterns of alphas overlap has another scale once it is saved and loaded.
#
# Versions:  peft 0.21.2, transformers 5.24.0, torch 2.13.0 (200 MB for processors, several GB where there is CUDA)
# Expected:  A saved adapter computes the same when it is loaded. `alpha_pattern` and `rank_pattern` map regular
#            expressions to numbers, and the first that matches a module's name counts.
# Observed:  `save_pretrained` writes adapter_config.json with sorted keys, those of the two mappings as well. A pattern
#            that came second in training may come first in the file: its alpha is then the module's, and no word is
#            said. With ranks the adapter cannot be loaded at all.
# Instead:   Let at most one pattern match each module, such as whole names of modules.
#
# Seen, the part of the logits by which an adapter differs before saving and after loading (torch 2.13.0 on x86):
#   alphas 16 for 'v_proj', 2 for '.*proj': 0.7; the scale of v_proj was 4.0 and is 0.5
#   alphas 16 for '.*v_proj', 2 for 'q_proj': 0; the scale of v_proj was 4.0 and is 4.0
#   ranks 2 for 'v_proj', 4 for '.*proj': RuntimeError, size mismatch
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet peft==0.21.2 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PY'
import copy
import sys

import peft
import torch

INPUTS = torch.arange(8.0)[None].sin()


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(8, 8)
        self.v_proj = torch.nn.Linear(8, 8)

    def forward(self, x):
        return self.v_proj(self.q_proj(x))


def saved_and_loaded(folder, **patterns):
    torch.manual_seed(0)
    base = Layer()
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **patterns)
    model = peft.get_peft_model(copy.deepcopy(base), config).eval()
    model.save_pretrained(folder)
    loaded = peft.PeftModel.from_pretrained(base, folder).eval()
    before, after = model(INPUTS).detach(), loaded(INPUTS).detach()
    scales = [made.base_model.model.v_proj.scaling["default"] for made in (model, loaded)]
    return float((after - before).norm() / before.norm()), *scales


def show(folder, **alphas):
    error, trained, loaded = saved_and_loaded(folder, alpha_pattern=alphas)
    listed = ", ".join(f"{alpha} for '{pattern}'" for pattern, alpha in alphas.items())
    print(f"alphas {listed}: {error:.2g}; the scale of v_proj was {trained} and is {loaded}")
    return error


work = sys.argv[1]
if show(f"{work}/overlapping", **{"v_proj": 16, ".*proj": 2}) < 0.1:
    raise SystemExit("changed: patterns of alphas keep their order")
if show(f"{work}/apart", **{".*v_proj": 16, "q_proj": 2}) > 1e-6:
    raise SystemExit("changed: patterns that do not overlap give another scale, too")
try:
    saved_and_loaded(f"{work}/ranks", rank_pattern={"v_proj": 2, ".*proj": 4})
except RuntimeError as error:
    if "size mismatch" not in str(error):
        raise
    print("ranks 2 for 'v_proj', 4 for '.*proj': RuntimeError, size mismatch")
else:
    raise SystemExit("changed: patterns of ranks keep their order")
PY
"$work/venv/bin/python" "$work/show.py" "$work"
