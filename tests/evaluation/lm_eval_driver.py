"""Run by a Python that has lm-eval: what it and Cuvée make of the same exported tasks and the same model, as JSON.

python lm_eval_driver.py MODEL FOLDER NAME...
"""

import json
import sys
from pathlib import Path

from cuvee.evaluation import evaluate, load_model
from cuvee.evaluation.samples import samples_file


def main() -> None:
    model, folder, *names = sys.argv[1:]
    out = Path(folder) / "out"
    tasks = [f"lm-eval:{Path(folder) / name}.yaml" for name in names]
    report = evaluate(load_model(model, device="cpu"), tasks, batch_size=16, out=out)
    samples = {name: samples_file(out, name).read_text(encoding="utf-8").splitlines() for name in names}
    read = {name: [json.loads(line) for line in written] for name, written in samples.items()}
    print(json.dumps({"report": report.to_json(), "samples": read}))


if __name__ == "__main__":
    main()
