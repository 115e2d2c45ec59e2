#!/bin/sh
# mergekit's nuslerp_row_wise: true goes by columns, and false by rows.
#
# Versions:  mergekit 0.1.5, torch 2.13.0 (large: torch alone is 1 GB or more)
# Expected:  The guide to the methods says that without `nuslerp_flatten` the vectors are columns, and with
#            `nuslerp_row_wise: true` rows. On the arc between two vectors of length 1 all points have length 1: matrices
#            whose rows have length 1 must give a matrix of such rows when merged by rows.
# Observed:  It is the other way round. With true, the columns keep their length; with false, the rows do.
# Instead:   Set the contrary of what you mean: for rows (one neuron of a torch.nn.Linear each) leave it false.
#
# Seen, for matrices whose rows have length 1:
#   nuslerp_row_wise: true   lengths of the merged rows 0.85 to 1.13
#   nuslerp_row_wise: false  lengths of the merged rows 1.00 to 1.00
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mergekit==0.1.5 torch==2.13.0
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" TRANSFORMERS_VERBOSITY=error
cat >make_and_compare.py <<'PY'
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

COMMAND = Path(sys.executable).with_name("mergekit-pytorch")
RECIPE = """\
merge_method: nuslerp
models:
  - {{model: first.safetensors, parameters: {{weight: 0.5}}}}
  - {{model: second.safetensors, parameters: {{weight: 0.5}}}}
parameters: {{nuslerp_flatten: false, nuslerp_row_wise: {by_rows}}}
dtype: float32
"""


def merged_rows(by_rows):
    """Return the shortest and the longest row of the merged matrix."""
    Path("recipe.yaml").write_text(RECIPE.format(by_rows=by_rows))
    run = subprocess.run([COMMAND, "recipe.yaml", f"merged-{by_rows}"], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-600:])
    merged = load_file(next(Path(f"merged-{by_rows}").glob("*.safetensors")))["weight"]
    lengths = torch.linalg.vector_norm(merged, dim=1)
    print(f"nuslerp_row_wise: {by_rows:5}  lengths of the merged rows {lengths.min():.2f} to {lengths.max():.2f}")
    return float(lengths.min()), float(lengths.max())


torch.manual_seed(0)
for name in ("first", "second"):
    matrix = torch.randn(24, 32)
    save_file({"weight": matrix / torch.linalg.vector_norm(matrix, dim=1, keepdim=True)}, f"{name}.safetensors")
by_rows, by_columns = merged_rows("true"), merged_rows("false")
if max(abs(length - 1) for length in by_columns) > 0.001:
    raise SystemExit("changed: without nuslerp_row_wise the rows no longer keep their length")
if max(abs(length - 1) for length in by_rows) < 0.001:
    raise SystemExit("changed: with nuslerp_row_wise the rows keep their length")
PY
"$work/venv/bin/python" make_and_compare.py
