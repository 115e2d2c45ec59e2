"""Texts of very different length written by Cuvée, by transformers' `generate` and by lm-eval, in one run.

    python benchmarks/writing.py MODEL [--items 200] [--batch-sizes 8 16 32 64] [--lm-eval 1 16] [--json]

MODEL is a folder with a chat template, or one with a GGUF file, as for `evaluate.py`. lm-eval 0.4.13 must be installed
beside Cuvée. All write greedily in float32 on the CPU, the same model after the same prompts, to the same end; the two
others run it as transformers loads it. The items are dealt out to rounds, and in each every way takes its turn, in
turning order. transformers and lm-eval are run at each batch size, and their best counts. Tokens are those of Cuvée's
texts, for all ways alike.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from evaluate import evenly, lm_eval_version, readable, shown

from cuvee.evaluation import Prompt, Sample, load_model
from cuvee.evaluation.generate import generate
from cuvee.evaluation.model import LanguageModel

SUBJECTS = (
    "rivers", "bread", "the moon", "trains", "honey", "chess", "winter", "bridges", "tea", "volcanoes", "maps", "wool",
    "clocks", "salt", "whales", "paper", "glass", "apples", "deserts", "drums", "ships", "silk", "owls", "rain",
    "cheese",
)  # fmt: skip
REQUESTS = (
    "Answer yes or no: are {} old?", "In one word: where does one find {}?", "Name one thing that goes with {}.",
    "Say in one short sentence what {} are for.", "List three facts about {}.", "Write a short poem about {}.",
    "Explain to a child everything about {}.", "Write a long essay on the history of {}.",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--most", type=int, default=256, help="tokens of a text")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 16, 32, 64], help="of transformers")
    parser.add_argument("--lm-eval", type=int, nargs="*", default=[1, 16], help="batch sizes of lm-eval")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    requests = [request.format(subject) for subject, request in product(SUBJECTS, REQUESTS)]
    samples = [Sample(str(place), text, "generation") for place, text in enumerate(requests)]
    samples = evenly(samples, options.items)
    with TemporaryDirectory() as scratch:
        folder = readable(options.model, Path(scratch))
        model = load_model(folder, device="cpu")
        bare = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = Prompt(chat_template=True, max_new_tokens=options.most)
    results = measure(model, bare, samples, prompt, options.batch_sizes, options.lm_eval, options.rounds)
    print(json.dumps(results, indent=2) if options.json else shown(results))


def measure(
    model: LanguageModel,
    bare: Any,
    samples: list[Sample],
    prompt: Prompt,
    batch_sizes: list[int],
    lm_eval_sizes: list[int],
    rounds: int,
) -> dict[str, object]:
    plain = replace(model, network=bare)
    ways: dict[str, Callable[[list[Sample]], list[str]]] = {"cuvee": lambda part: by_cuvee(model, part, prompt)}
    for size in batch_sizes:
        ways[f"transformers, batch size {size}"] = lambda part, size=size: by_transformers(plain, part, prompt, size)
    for size in lm_eval_sizes:
        ways[f"lm-eval, batch size {size}"] = lambda part, size=size: by_lm_eval(plain, part, prompt, size)
    by_cuvee(model, samples[:2], prompt)  # the first forward pass pays for everybody
    seconds, processor = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    texts: dict[str, list[str]] = {name: [] for name in ways}
    for turn in range(rounds):
        part = samples[turn::rounds]
        for name in [*ways][turn % len(ways) :] + [*ways][: turn % len(ways)]:
            started, used = time.perf_counter(), time.process_time()
            texts[name] += ways[name](part)
            seconds[name] += time.perf_counter() - started
            processor[name] += time.process_time() - used
            so_far = f"{seconds[name]:.0f} s, {processor[name]:.0f} s of CPU"
            print(f"round {turn + 1}, {name}: {so_far}", file=sys.stderr, flush=True)
    lengths = [len(tokens) for tokens in model.encode_plain(texts["cuvee"])]
    best = [
        min((name for name in ways if name.startswith(tool)), key=lambda name: processor[name])
        for tool in ("transformers", "lm-eval")
        if any(name.startswith(tool) for name in ways)
    ]
    return {
        "items": len(samples),
        "tokens written": sum(lengths),
        "shortest, middle and longest text": [min(lengths), sorted(lengths)[len(lengths) // 2], max(lengths)],
        "threads": torch.get_num_threads(),
        "seconds": {name: round(taken, 1) for name, taken in seconds.items()},
        "seconds of CPU": {name: round(taken, 1) for name, taken in processor.items()},
        "tokens a second": {name: round(sum(lengths) / taken, 1) for name, taken in seconds.items()},
        "times Cuvée's seconds": {name: round(seconds[name] / seconds["cuvee"], 2) for name in best},
        "times Cuvée's seconds of CPU": {name: round(processor[name] / processor["cuvee"], 2) for name in best},
        "other texts": {name: differing(texts["cuvee"], texts[name]) for name in best},
        "versions": {"python": platform.python_version(), "torch": torch.__version__}
        | (lm_eval_version() if lm_eval_sizes else {"transformers": transformers.__version__}),
    }


def by_cuvee(model: LanguageModel, samples: list[Sample], prompt: Prompt) -> list[str]:
    found = dict(pair for batch in generate(model, samples, prompt) for pair in batch)
    return [found[place].text for place in range(len(samples))]


@torch.inference_mode()
def by_transformers(model: LanguageModel, samples: list[Sample], prompt: Prompt, size: int) -> list[str]:
    """Write in batches of like length, padded on the left, as people do."""
    rows = model.encode_plain([model.render(prompt, sample.input) for sample in samples])
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    texts = [""] * len(rows)
    for first in range(0, len(order), size):
        places = order[first : first + size]
        width = max(len(rows[place]) for place in places)
        ids = torch.tensor([[0] * (width - len(rows[place])) + rows[place] for place in places])
        mask = torch.tensor([[0] * (width - len(rows[place])) + [1] * len(rows[place]) for place in places])
        settings = {"do_sample": False, "max_new_tokens": prompt.max_new_tokens, "pad_token_id": 0}
        out = model.network.generate(ids, attention_mask=mask, **settings)[:, width:]
        for place, text in zip(places, model.tokenizer.batch_decode(out, skip_special_tokens=True), strict=True):
            texts[place] = text
    return texts


def by_lm_eval(model: LanguageModel, samples: list[Sample], prompt: Prompt, size: int) -> list[str]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    backend = HFLM(
        pretrained=model.network,
        tokenizer=model.tokenizer,
        batch_size=size,
        max_length=model.context_length,
        device="cpu",
    )
    settings = {"until": [], "max_gen_toks": prompt.max_new_tokens, "do_sample": False}
    asked = [
        Instance("generate_until", {}, (model.render(prompt, sample.input), settings), place)
        for place, sample in enumerate(samples)
    ]
    return list(backend.generate_until(asked, disable_tqdm=True))


def differing(first: list[str], second: list[str]) -> int:
    return sum(one.strip() != other.strip() for one, other in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
