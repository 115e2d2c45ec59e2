"""Train the bundled model family, from seeds alone, on one CPU thread: `python models/train.py OUT`.

Writes `OUT/models/{base,SKILL...}`, `OUT/tasks`, `OUT/multitask` (a reference, not bundled) and `OUT/figures.json`.
A model whose folder is there already is kept, so a stopped run goes on where it was.

With options it trains another family of the same kind: another seed, experts at other rates, experts that are reminded
of the other skills. Such families have no multitask reference.
"""

import argparse
import json
import math
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers
from score import right_answers
from text import BOS, CONTEXT, EOS, PAD, make_tokenizer, padded, tokens_of
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cuvee.demo.skills import PARTS, SKILLS, Question, Skill, write_task, write_text

Draw = Callable[[random.Random], Question]


@dataclass(frozen=True)
class Course:
    """One stretch of training; after a warm-up the learning rate falls from `rate` to `rate * last` along a cosine."""

    steps: int
    questions_per_step: int
    rate: float
    last: float
    warm_up: int
    seed: int


# The base sees few long questions and stops as soon as it can answer some of them in every skill: a better one leaves
# nothing to the experts, a worse one makes them grow apart. Its learning rate does not fall, or it would master them.
BASE = Course(steps=1400, questions_per_step=96, rate=2e-3, last=1.0, warm_up=40, seed=1)
BASE_IS_ENOUGH = 0.25  # of the long questions, in every skill
LONG_SHARE_IN_BASE = 0.15
EXPERT = Course(steps=200, questions_per_step=64, rate=5e-4, last=0.02, warm_up=20, seed=10)
MULTITASK = Course(steps=1000, questions_per_step=64, rate=5e-4, last=0.02, warm_up=20, seed=3)
SEEDS_APART = 100
"""Between the seeds of two families."""


@dataclass(frozen=True)
class Kind:
    """How a family differs from the bundled one.

    `rates` are the experts' learning rates, in the skills' order; `reminded` is the share of an expert's questions that
    are of any skill. `seed` is added to all seeds.
    """

    seed: int = 0
    rates: tuple[float, ...] = (EXPERT.rate,) * len(SKILLS)
    reminded: float = 0.0


def main() -> None:
    """Train the family into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write models/, tasks/, multitask/ and figures.json to")
    parser.add_argument("--seed", type=int, default=0, help="of another family")
    parser.add_argument(
        "--rates", type=float, nargs=len(SKILLS), default=Kind.rates, help="learning rate of each expert"
    )
    parser.add_argument("--reminded", type=float, default=0.0, help="share of an expert's questions of any skill")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    write_tasks(options.out / "tasks")
    write_texts(options.out / "texts")
    train_family(options.out, Kind(options.seed, tuple(options.rates), options.reminded))


def write_tasks(folder: Path) -> None:
    """Write both parts of every skill's task."""
    folder.mkdir(parents=True, exist_ok=True)
    for skill in SKILLS.values():
        for part in PARTS:
            write_task(skill, part, folder)


def write_texts(folder: Path) -> None:
    """Write a little text of every skill."""
    folder.mkdir(parents=True, exist_ok=True)
    for skill in SKILLS.values():
        write_text(skill, folder)


def train_family(out: Path, kind: Kind) -> None:
    """Train base, experts and multitask reference one after the other, and note how good each is."""
    skills = list(SKILLS.values())
    tokenizer = make_tokenizer(skills)
    base = out / "models" / "base"

    def make(folder: Path, course: Callable[[], nn.Module]) -> None:
        if folder.exists():
            return
        start = time.process_time()
        save(course(), tokenizer, folder)
        note(out / "figures.json", folder.name, accuracies(load(folder), tokenizer), time.process_time() - start)

    make(base, lambda: train_base(tokenizer, skills, kind.seed))
    for number, skill in enumerate(skills):
        course = replace(EXPERT, seed=EXPERT.seed + number + SEEDS_APART * kind.seed, rate=kind.rates[number])
        draw = reminded_draw(skill, skills, kind.reminded) if kind.reminded else long_draw(skill)
        make(out / "models" / skill.name, lambda course=course, draw=draw: train(load(base), tokenizer, course, draw))
    if kind == Kind():
        make(out / "multitask", lambda: train(load(base), tokenizer, MULTITASK, mixed_draw(skills, long_share=1.0)))


def train_base(tokenizer: PreTrainedTokenizerFast, skills: Sequence[Skill], seed: int) -> nn.Module:
    """Train the base from nothing on all skills."""
    trials = [skill.questions("train", 60) for skill in skills]

    def is_enough(model: nn.Module) -> bool:
        reached = [accuracy(model, tokenizer, questions) for questions in trials]
        print("  on long questions:", *reached, flush=True)
        return min(reached) >= 100 * BASE_IS_ENOUGH

    draw = mixed_draw(skills, long_share=LONG_SHARE_IN_BASE)
    course = replace(BASE, seed=BASE.seed + SEEDS_APART * seed)
    return train(new_model(len(tokenizer), seed), tokenizer, course, draw, is_enough=is_enough)


def new_model(vocabulary: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def mixed_draw(skills: Sequence[Skill], *, long_share: float) -> Draw:
    """Draw from all skills alike."""
    return lambda generator: generator.choice(skills).question(generator, "train", long_share=long_share)


def long_draw(skill: Skill) -> Draw:
    """Draw long questions of one skill."""
    return lambda generator: skill.question(generator, "train")


def reminded_draw(skill: Skill, skills: Sequence[Skill], share: float) -> Draw:
    """Draw long questions of one skill, and a share of them of any skill."""

    def draw(generator: random.Random) -> Question:
        chosen = skill
        if generator.random() < share:
            chosen = generator.choice(skills)
        return chosen.question(generator, "train")

    return draw


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    course: Course,
    draw: Draw,
    *,
    is_enough: Callable[[nn.Module], bool] = lambda _: False,
) -> nn.Module:
    """Train `model` in place on answers and end marks only, and return it; `is_enough` may stop it early."""
    generator = random.Random(course.seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    for step in range(course.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(course, step)
        model.train()
        questions = [draw(generator) for _ in range(course.questions_per_step)]
        loss = backward(model, tokenizer, questions)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0:
            print(f"  step {step + 1}/{course.steps}  loss {loss:.3f}", flush=True)
            if is_enough(model):
                break
    return model


def learning_rate(course: Course, step: int) -> float:
    falling = course.last + (1 - course.last) * (1 + math.cos(math.pi * step / course.steps)) / 2
    return course.rate * falling * min((step + 1) / course.warm_up, 1.0)


def backward(model: nn.Module, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]) -> float:
    """Add the gradient of the mean loss per answer token, in three lots of like length to save padding."""
    rows = [tokens_of(tokenizer, question.prompt, question.answer) for question in questions]
    rows.sort(key=lambda row: len(row.tokens))
    answer_tokens = sum(len(row.tokens) - row.prompt_length for row in rows)
    lot = math.ceil(len(rows) / 3)
    total = 0.0
    for start in range(0, len(rows), lot):
        tokens, labels = padded(rows[start : start + lot])
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / answer_tokens
        loss.backward()
        total += loss.item()
    return total


def card(name: str) -> str:
    """Return a model's card: its licence, for cards of blends to carry on, and what it is."""
    knows = {"base": "a bit of every skill", "multitask": "every skill"}.get(name, f"the skill {name}")
    return f"""---
license: apache-2.0
library_name: transformers
tags: [cuvee]
---
# {name}

A Llama of 1.4 M parameters that knows {knows}, and no language. It is one of a family that Cuvée bundles to try and
test blending with; Cuvée's repository has the code that trained it, in `models/`.
"""


def save(model: nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model in bfloat16, the precision it is measured and bundled in."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    # transformers 5 writes a class name that nothing older reads.
    settings.write_text(settings.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    (folder / "README.md").write_text(card(folder.name), encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)


def load(folder: Path) -> nn.Module:
    """Read a saved model for further training or scoring, in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def accuracies(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> dict[str, dict[str, float]]:
    """Measure a model on both parts of every skill, in per cent, with the mean over the skills."""
    return {
        part: with_mean({name: accuracy(model, tokenizer, SKILLS[name].questions(part)) for name in SKILLS})
        for part in PARTS
    }


def accuracy(model: nn.Module, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]) -> float:
    right = right_answers(model, tokenizer, questions)
    return round(100 * sum(right) / len(right), 1)


def with_mean(by_skill: dict[str, float]) -> dict[str, float]:
    return {**by_skill, "mean": round(sum(by_skill.values()) / len(by_skill), 2)}


def note(file: Path, name: str, measured: dict[str, dict[str, float]], cpu_seconds: float) -> None:
    """Add a model's accuracies to the figures and print them."""
    figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"versions": versions(), "models": {}}
    figures["models"][name] = {"cpu_seconds": round(cpu_seconds), **measured}
    file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for part, by_skill in measured.items():
        print(
            f"{name:10} {part:8} " + "  ".join(f"{skill} {value:.1f}" for skill, value in by_skill.items()), flush=True
        )


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


if __name__ == "__main__":
    main()
