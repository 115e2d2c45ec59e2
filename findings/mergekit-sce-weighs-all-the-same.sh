#!/bin/sh
# mergekit's SCE gives fine-tunes of the usual size all the same weight.
#
# Versions:  mergekit 0.1.5, torch 2.13.0 (large: torch alone is 1 GB or more)
# Expected:  The guide to the methods says that the coefficients of a matrix come from the mean square of each model's
#            change, divided by their sum: of two changes of which one is twice as large it gets 4/5. Only the ratio
#            counts, so that ten times smaller changes have the same coefficients.
# Observed:  If the mean squares sum to less than 0.000001, all models get the same weight: for two models, if they move
#            a number by about 0.0007 or less, as a fine-tune of a large model does. The step "calculate", the C of SCE,
#            is then left out without a word.
# Instead:   Expect sign election with equal weights there; where weights matter, give them yourself in a `ties` recipe.
#
# Seen, for changes of one sign, the second model's twice the first's:
#   changes of 0.01 and 0.02:      weight of the second 0.800
#   changes of 0.0001 and 0.0002:  weight of the second 0.500
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mergekit==0.1.5 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat >recipe.yaml <<'YAML'
merge_method: sce
base_model: base.safetensors
models:
  - model: first.safetensors
  - model: second.safetensors
dtype: float32
YAML
cat >make_and_compare.py <<'PY'
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

COMMAND = Path(sys.executable).with_name("mergekit-pytorch")


def weight_of_the_second(size):
    """Merge a base and two models that are moved by `size` and twice as much; return the second's share."""
    base = torch.zeros(64, 64)
    for name, change in {"base": 0.0, "first": size, "second": 2 * size}.items():
        save_file({"weight": base + change}, f"{name}.safetensors")
    run = subprocess.run([COMMAND, "recipe.yaml", f"merged-{size}"], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-600:])
    merged = load_file(next(Path(f"merged-{size}").glob("*.safetensors")))["weight"]
    return float(merged.mean() / size - 1)


large, small = weight_of_the_second(0.01), weight_of_the_second(0.0001)
print(f"changes of 0.01 and 0.02:      weight of the second {large:.3f}")
print(f"changes of 0.0001 and 0.0002:  weight of the second {small:.3f}")
if abs(large - 0.8) > 0.001:
    raise SystemExit("changed: large changes are no longer weighed by their mean squares")
if abs(small - 0.5) > 0.001:
    raise SystemExit("changed: small changes are weighed too")
PY
"$work/venv/bin/python" make_and_compare.py
