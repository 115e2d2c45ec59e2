#!/bin/sh
# mergekit's DELLA makes the large changes of a row larger and the small ones smaller, where DELLA keeps them as they are.
#
# Versions:  mergekit 0.1.5, torch 2.13.0 (large: torch alone is 1 GB or more)
# Expected:  DELLA keeps a number with a probability that rises with its size in the row. So that nothing is changed on
#            average, the paper divides each kept number by its own probability. The guide says that the method ends with
#            a rescaling like DARE's, and DARE's keeps the average.
# Observed:  All kept numbers of a tensor are multiplied by one factor, the one that restores the sum of magnitudes.
#            Those that are kept more often are then too large on average and the others too small, by the same share in
#            every draw and every model: with density 0.5 and epsilon 0.3 the largest is scaled by 1.33, the smallest by
#            0.33. So each number of the merge has another weight. DARE, with one probability, is right.
# Instead:   A small epsilon, where the bias is small too, or `dare_linear` and `dare_ties`.
#
# Seen, the average of what a merge makes of a change, as a part of it, over 4,096 equal rows of 1 to 64:
#   dare_linear, density 0.5:                smallest 1.03, middle 0.98, largest 1.00
#   della_linear, density 0.5, epsilon 0.3:  smallest 0.34, middle 0.80, largest 1.35
#   della_linear, density 0.5, epsilon 0.01: smallest 1.00, middle 0.97, largest 1.01
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mergekit==0.1.5 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat > show.py <<'PY'
import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

COMMAND = Path(sys.executable).with_name("mergekit-pytorch")
CHANGE = torch.arange(1.0, 65.0).expand(4096, 64)


def average(name, method, settings):
    """Merge one model into a base of zeros; return each column's average as a part of the change."""
    recipe = {
        "merge_method": method, "base_model": "base.safetensors", "dtype": "float32",
        "models": [{"model": "tuned.safetensors", "parameters": {"weight": 1.0, "density": 0.5, **settings}}],
    }
    Path("recipe.yaml").write_text(json.dumps(recipe))
    folder = f"{method}-{len(list(Path().iterdir()))}"
    run = subprocess.run([COMMAND, "recipe.yaml", folder, "--random-seed", "1"], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-600:])
    merged = load_file(next(Path(folder).glob("*.safetensors")))["weight"]
    parts = (merged / CHANGE).mean(0)
    smallest, middle, largest = float(parts[0]), float(parts[31]), float(parts[63])
    print(f"{name + ':':<40} smallest {smallest:.2f}, middle {middle:.2f}, largest {largest:.2f}")
    return smallest, largest


save_file({"weight": torch.zeros_like(CHANGE).contiguous()}, "base.safetensors")
save_file({"weight": CHANGE.contiguous()}, "tuned.safetensors")
dare = average("dare_linear, density 0.5", "dare_linear", {})
della = average("della_linear, density 0.5, epsilon 0.3", "della_linear", {"epsilon": 0.3})
narrow = average("della_linear, density 0.5, epsilon 0.01", "della_linear", {"epsilon": 0.01})
if max(abs(part - 1) for part in (*dare, *narrow)) > 0.1:
    raise SystemExit("changed: equal probabilities change the average")
if della[0] > 0.8 or della[1] < 1.1:
    raise SystemExit("changed: DELLA keeps the average")
PY
"$work/venv/bin/python" show.py
