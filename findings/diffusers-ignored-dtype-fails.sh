#!/bin/sh
# A `dtype` in a model's config.json is said to be ignored, and then the model cannot be opened.
#
# Versions:  diffusers 0.42.1, torch 2.13.0 (200 MB for processors, several GB where the index offers CUDA)
# Expected:  An attribute that the model does not know is ignored, as the warning says; so it is for any other name.
# Observed:  With `dtype`, the key under which transformers 5 keeps the type of the numbers, `from_pretrained` gives the
#            same warning, passes the value on to the model's constructor and ends in a TypeError.
# Instead:   Leave `dtype` out of a config.json of diffusers; the types are in the safetensors files.
#
# Seen:
#   as diffusers wrote it:          opens
#   with "author": "float32":       opens
#   with "torch_dtype": "float32":  opens
#   with "dtype": "float32":        TypeError
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.13.0
"$work/venv/bin/python" - "$work/model" <<'PY'
import json
import sys
from pathlib import Path

from diffusers import UNet2DModel
from diffusers.utils import logging

logging.set_verbosity_error()
folder = Path(sys.argv[1])
UNet2DModel(
    sample_size=8,
    block_out_channels=(32, 32),
    layers_per_block=1,
    norm_num_groups=8,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D"),
).save_pretrained(folder)
config = json.loads((folder / "config.json").read_text())


def answer(**more):
    (folder / "config.json").write_text(json.dumps(config | more))
    try:
        model = UNet2DModel.from_pretrained(folder)
    except TypeError as error:
        assert "dtype" in str(error)
        return "TypeError"
    assert sum(each.numel() for each in model.parameters()) > 0
    return "opens"


seen = answer(), answer(author="float32"), answer(torch_dtype="float32"), answer(dtype="float32")
print(f"  as diffusers wrote it:          {seen[0]}")
print(f'  with "author": "float32":       {seen[1]}')
print(f'  with "torch_dtype": "float32":  {seen[2]}')
print(f'  with "dtype": "float32":        {seen[3]}')
if seen != ("opens", "opens", "opens", "TypeError"):
    raise SystemExit("changed: a model of diffusers opens whatever its config.json says of `dtype`")
PY
