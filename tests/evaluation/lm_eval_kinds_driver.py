"""Run by a Python that has lm-eval: what it and Cuvée find for each of `lm_eval_kinds`, as JSON.

python lm_eval_kinds_driver.py MODEL FOLDER

What lm-eval prints while Cuvée runs it must not reach the output, which would then be no JSON.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

sys.path.insert(0, str(Path(__file__).parent))

from lm_eval_kinds import CHAT, GROUPS, KINDS  # beside this file, which is no part of a package here

from cuvee.evaluation import evaluate, harness, load_model

ROWS, BOOTSTRAPS = 4, 1000
AGAIN = "bits_per_byte"
"""What is asked again of the model in other types of numbers, once where the first answers are kept."""


def main() -> None:
    model, folder = sys.argv[1], Path(sys.argv[2])
    harness.BOOTSTRAP_SAMPLES = BOOTSTRAPS
    found = {}
    loaded = load_model(model, device="cpu")
    for name in (*KINDS, *GROUPS):
        with contextlib.redirect_stdout(sys.stderr):
            theirs = directly(model, folder, name)
        report = evaluate(
            loaded,
            [f"lm-eval:{folder / name}.yaml"],
            batch_size=ROWS,
            prompt={"chat_template": name in CHAT},
            out=folder / "out" / name,
        )
        found[name] = {"theirs": theirs, "ours": report.to_json()}
    rough = load_model(model, device="cpu", dtype="bfloat16")
    again = {
        place.name: evaluate(rough, [f"lm-eval:{folder / AGAIN}.yaml"], batch_size=ROWS, out=place).to_json()["tasks"]
        for place in (folder / "out" / AGAIN, folder / "out" / "anew")
    }
    names = {name: harness.is_a_task_of_lm_eval(name) for name in ("mmlu", "gsm8k", "no_such_task")}
    print(json.dumps({"kinds": found, "names": names, "again": again}))


def directly(model: str, folder: Path, name: str) -> dict[str, Any]:
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "device": "cpu", "dtype": "float32"},
        tasks=[name],
        batch_size=ROWS,
        bootstrap_iters=BOOTSTRAPS,
        apply_chat_template=name in CHAT,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )
    return {key: results[key] for key in ("results", "groups", "n-samples") if key in results}


if __name__ == "__main__":
    main()
