#!/bin/sh
# An adapter of a stack of square matrices that PEFT 0.18 saved is loaded by 0.21 without a word, and is another adapter.
#
# Versions:  peft 0.21.2 (older ones: 0.18.1, 0.19.0, 0.19.1), transformers 5.24.0, torch 2.13.0 (200 MB for processors,
#            several GB where there is CUDA)
# Expected:  `adapter_model.safetensors` means the same in every version that loads it, or loading fails. The format has
#            no version, and the files name `peft_version` for information.
# Observed:  With `target_parameters`, as for the experts of a mixture, 0.18.1 gives lora_A the second axis of the
#            parameter. 0.19.0 gives it the last one where the module says `is_transposed`, and 0.19.1 to 0.21.2 the
#            last one where it does not. Matrices that are not square then fail to load. Square ones load, and the
#            change is that of the factors the wrong way round: B A in the place of its transpose.
# Instead:   Look at `peft_version` in adapter_config.json before such factors are used, and at the module's axes.
#
# Seen:
#   peft 0.18.1: lora_A of [experts, 3, 5] has 3 columns; where the module says is_transposed, 3
#   peft 0.19.0: lora_A of [experts, 3, 5] has 3 columns; where the module says is_transposed, 5
#   peft 0.19.1: lora_A of [experts, 3, 5] has 5 columns; where the module says is_transposed, 3
#   peft 0.21.2: lora_A of [experts, 3, 5] has 5 columns; where the module says is_transposed, 3
#   saved by 0.18.1, not square, loaded by 0.21.2: RuntimeError, size mismatch
#   saved by 0.18.1, square, loaded by 0.21.2: no error, no warning; the change is the transpose of what was saved
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet peft==0.21.2 transformers==5.24.0 torch==2.13.0
for version in 0.18.1 0.19.0 0.19.1 0.21.2; do
  "$work/venv/bin/pip" install --quiet --no-deps --target "$work/$version" "peft==$version"
done
cat > "$work/show.py" <<'PY'
import sys
import warnings
from pathlib import Path

import peft
import torch

COLUMNS = {"0.18.1": (3, 3), "0.19.0": (3, 5), "0.19.1": (5, 3), "0.21.2": (5, 3)}
ZERO = torch.zeros(1)


class Experts(torch.nn.Module):
    """Two matrices in one parameter."""

    def __init__(self, rows, columns, transposed):
        super().__init__()
        if transposed:
            self.is_transposed = True
        self.stack = torch.nn.Parameter(torch.zeros(2, rows, columns))

    def forward(self, zero):
        return self.stack + zero


class Model(torch.nn.Module):
    def __init__(self, rows, columns, transposed=False):
        super().__init__()
        self.experts = Experts(rows, columns, transposed)

    def forward(self, zero):
        return self.experts(zero)


def adapted(model):
    config = peft.LoraConfig(r=1, lora_alpha=1, target_modules=[], target_parameters=["experts.stack"])
    return peft.get_peft_model(model, config)


def columns(transposed):
    named = dict(adapted(Model(3, 5, transposed)).named_parameters())
    return next(tensor.shape[1] for name, tensor in named.items() if "lora_A" in name)


def changed():
    raise SystemExit(f"changed: peft {peft.__version__} lays the factors of a parameter otherwise, or refuses them")


def save(folder):
    """Save two adapters of 0.18.1, and what the square one makes of a stack of zeros."""
    for name, shape in (("square", (4, 4)), ("oblong", (3, 5))):
        torch.manual_seed(0)
        model = adapted(Model(*shape))
        for tensor in model.parameters():
            if tensor.requires_grad:
                torch.nn.init.normal_(tensor)
        model.save_pretrained(folder / name)
        torch.save(model(ZERO).detach(), folder / f"{name}.pt")


def load(folder):
    """Load both in this version."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = peft.PeftModel.from_pretrained(Model(4, 4), folder / "square")(ZERO).detach()
    told = [warning for warning in said if issubclass(warning.category, (UserWarning, RuntimeWarning))]
    saved = torch.load(folder / "square.pt")
    try:
        peft.PeftModel.from_pretrained(Model(3, 5), folder / "oblong")
        changed()
    except RuntimeError as error:
        assert "size mismatch" in str(error)
        print("  saved by 0.18.1, not square, loaded by 0.21.2: RuntimeError, size mismatch")
    if told or torch.allclose(found, saved) or not torch.allclose(found, saved.transpose(1, 2)):
        changed()
    print("  saved by 0.18.1, square, loaded by 0.21.2: no error, no warning; the change is the transpose of what was saved")


plain, flagged = columns(transposed=False), columns(transposed=True)
print(f"  peft {peft.__version__}: lora_A of [experts, 3, 5] has {plain} columns; where the module says is_transposed, {flagged}")
if (plain, flagged) != COLUMNS[peft.__version__]:
    changed()
if peft.__version__ == "0.18.1":
    save(Path(sys.argv[1]))
if peft.__version__ == "0.21.2":
    load(Path(sys.argv[1]))
PY
for version in 0.18.1 0.19.0 0.19.1 0.21.2; do
  PYTHONPATH="$work/$version" "$work/venv/bin/python" -W ignore "$work/show.py" "$work"
done
