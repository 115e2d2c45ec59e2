#!/bin/sh
# mergekit's multislerp interpolates along the straight line between the directions, not along the sphere.
#
# Versions:  mergekit 0.1.5, torch 2.13.0 (large: torch alone is 1 GB or more)
# Expected:  Multi-SLERP is SLERP for several models: the guide calls it barycentric interpolation on a hypersphere, done
#            in the plane that touches it at the weighted mean of the directions. For two models it is then SLERP, as
#            `slerp` and `nuslerp` compute it: weight 0.25 goes a quarter of the angle.
# Observed:  It gives the weighted mean of the unit vectors, scaled up to the sphere. What it adds to that is always zero:
#            it moves by the weighted sum of the parts of the vectors that are perpendicular to their own weighted mean.
#            So no step of the three that are documented does anything. With equal weights of two models all agree; the
#            wider the angle and the less equal the weights, the further off. Changes of fine-tunes of different tasks
#            stand at about 90 degrees.
# Instead:   `nuslerp` for two models; for more, expect a normalised average.
#
# Seen, for two vectors of length 1: the angle from the first, in degrees
#   90 apart, second of weight 0.5:    nuslerp 45.0, multislerp 45.0; mean of both, scaled: 45.0
#   90 apart, second of weight 0.25:   nuslerp 22.5, multislerp 18.4; mean of both, scaled: 18.4
#   150 apart, second of weight 0.25:  nuslerp 37.5, multislerp 13.2; mean of both, scaled: 13.2
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mergekit==0.1.5 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat > show.py <<'PY'
import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

COMMAND = Path(sys.executable).with_name("mergekit-pytorch")
MODELS = ("first.safetensors", "second.safetensors")
FIRST, ACROSS = torch.eye(64)[0], torch.eye(64)[1]


def recipe(method, weight):
    """Return a recipe that gives the second model that weight; JSON is YAML too."""
    weights = (1 - weight, weight)
    models = [
        {"model": name, "parameters": {"weight": share}} for name, share in zip(MODELS, weights, strict=True)
    ]
    return {"merge_method": method, "models": models}


def angle_of_merged(method, angle, weight):
    """Merge two unit vectors; return by how many degrees the result is turned away from the first."""
    vectors = (FIRST, math.cos(math.radians(angle)) * FIRST + math.sin(math.radians(angle)) * ACROSS)
    for name, vector in zip(MODELS, vectors, strict=True):
        save_file({"weight": vector.reshape(8, 8).contiguous()}, name)
    Path("recipe.yaml").write_text(json.dumps({**recipe(method, weight), "dtype": "float32"}))
    folder = f"{method}-{angle}-{weight}"
    run = subprocess.run([COMMAND, "recipe.yaml", folder], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-600:])
    merged = load_file(next(Path(folder).glob("*.safetensors")))["weight"].flatten()
    return math.degrees(math.atan2(merged @ ACROSS, merged @ FIRST))


def show(angle, weight):
    slerp, multi = (angle_of_merged(method, angle, weight) for method in ("nuslerp", "multislerp"))
    turned = math.radians(angle)
    mean = math.degrees(math.atan2(weight * math.sin(turned), 1 - weight + weight * math.cos(turned)))
    print(
        f"{f'{angle} apart, second of weight {weight}:':<34} nuslerp {slerp:.1f}, multislerp {multi:.1f}; "
        f"mean of both, scaled: {mean:.1f}"
    )
    if abs(slerp - weight * angle) > 0.05:
        raise SystemExit("changed: nuslerp no longer goes that part of the angle")
    if abs(multi - mean) > 0.05:
        raise SystemExit("changed: multislerp is no longer the scaled mean")


show(90, 0.5)
show(90, 0.25)
show(150, 0.25)
PY
"$work/venv/bin/python" show.py
