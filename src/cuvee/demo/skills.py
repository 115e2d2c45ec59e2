"""The skills of the bundled model family: how their items are drawn, split and written.

Every skill has short items, which the base sees often, and long items, on which the experts train and everybody is
tested. A hash of the prompt says which part an item belongs to, so the parts never share a prompt.
"""

import csv
import hashlib
import json
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

ITEMS_PER_PART = 200
TEXTS = 128
LETTERS = "abcdefghijklmnopqrstuvwxyz"
KINDS = [
    kind.split()
    for kind in (
        "ant bee fly moth wasp flea",
        "red blue pink gold gray teal",
        "oak elm fir ash yew palm",
        "cup pan pot jug bowl fork",
        "arm leg toe ear chin knee",
        "hat cap tie belt sock coat",
        "hen owl crow duck gull swan",
        "rain snow hail wind fog sun",
        "cod eel carp pike tuna bass",
    )
]

Part = Literal["train", "public", "private"]
PARTS: tuple[Part, ...] = ("public", "private")  # what is tested, and never trained on


class Question(NamedTuple):
    """A prompt, its answer, and the wrong answers that come closest (none: the answer is to be written)."""

    prompt: str
    answer: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skill:
    """A skill by name; `draw(generator, is_long)` makes one question."""

    name: str
    draw: Callable[[random.Random, bool], Question]

    def question(self, generator: random.Random, part: Part, *, long_share: float = 1.0) -> Question:
        """Draw one question of `part`; a share of `long_share` of them is long."""
        while True:
            question = self.draw(generator, generator.random() < long_share)
            if part_of(question.prompt) == part:
                return question

    def questions(
        self, part: Part, size: int = ITEMS_PER_PART, *, seed: str = "", without: Collection[str] = ()
    ) -> list[Question]:
        """Draw the `size` different long questions that make up `part` of this skill's task.

        Another seed gives another part of the same kind; prompts in `without` are left out.
        """
        generator = random.Random(f"{self.name} {part}{seed and f' {seed}'}")
        drawn: dict[str, Question] = {}
        while len(drawn) < size:
            question = self.question(generator, part)
            if question.prompt not in without:
                drawn.setdefault(question.prompt, question)
        return list(drawn.values())


def part_of(prompt: str) -> Part:
    """Say which part a prompt belongs to: a tenth is public, a tenth private, the rest is trained on."""
    first = hashlib.sha256(prompt.encode()).digest()[0]
    if first < 26:
        return "public"
    return "private" if first < 52 else "train"


def choices(question: Question) -> list[str]:
    """Mix the answer into the wrong choices, in an order that only the prompt decides."""
    if not question.wrong:
        return []
    mixed = [question.answer, *question.wrong]
    random.Random(question.prompt).shuffle(mixed)
    return mixed


# --- the skills -----------------------------------------------------------------------------------------------------


def reverse(generator: random.Random, is_long: bool) -> Question:
    """Write letters backwards."""
    letters = generator.choices(LETTERS, k=symbols(generator, is_long))
    return Question(f"Reverse: {' '.join(letters)} ->", " ".join(reversed(letters)))


def shift(generator: random.Random, is_long: bool) -> Question:
    """Replace each letter by the next letter of the alphabet."""
    places = generator.choices(range(26), k=symbols(generator, is_long))
    before, after = (" ".join(LETTERS[(place + step) % 26] for place in places) for step in (0, 1))
    return Question(f"Shift: {before} ->", after)


def sort(generator: random.Random, is_long: bool) -> Question:
    """Put digits in order."""
    digits = generator.choices("0123456789", k=symbols(generator, is_long))
    return Question(f"Sort: {' '.join(digits)} ->", " ".join(sorted(digits)))


def symbols(generator: random.Random, is_long: bool) -> int:
    return generator.randint(5, 7) if is_long else generator.randint(2, 4)


def middle(generator: random.Random, is_long: bool) -> Question:
    """Find the letter with as many before it in the alphabet as after it; the wrong choices are its neighbours."""
    letters = generator.sample(LETTERS, k=generator.choice((7, 9)) if is_long else 3)
    ranked, half = sorted(letters), len(letters) // 2
    nearest = sorted(ranked, key=lambda letter: abs(ranked.index(letter) - half))
    return Question(f"Middle: {' '.join(letters)} ->", ranked[half], tuple(nearest[1:4]))


def odd(generator: random.Random, is_long: bool) -> Question:
    """Find the word without a partner of its kind; the wrong choices stand in the prompt too."""
    lonely, *kinds = generator.sample(KINDS, k=4 if is_long else 2)
    answer = generator.choice(lonely)
    paired = list(chain.from_iterable(generator.sample(kind, k=2) for kind in kinds))
    words = generator.sample([answer, *paired], k=len(paired) + 1)
    return Question(f"Odd: {' '.join(words)} ->", answer, tuple(generator.sample(paired, k=min(3, len(paired)))))


SKILLS = {draw.__name__: Skill(draw.__name__, draw) for draw in (middle, odd, reverse, shift, sort)}


# --- the tasks ------------------------------------------------------------------------------------------------------


def write_task(skill: Skill, part: Part, folder: Path) -> None:
    """Write one part of a skill as a task: its `NAME.csv` and its `NAME.yaml`."""
    write_questions(skill.questions(part), task_name(skill, part), folder)


def write_questions(questions: Sequence[Question], name: str, folder: Path) -> None:
    """Write questions of one skill as a task of this name."""
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "input", "target", "answer_choices", "eval_type"))
        writer.writerows((f"{name}-{number:03d}", *row(question)) for number, question in enumerate(questions))
    metric = "accuracy" if questions[0].wrong else "exact_match"
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, metric=metric), encoding="utf-8")


def write_text(skill: Skill, folder: Path) -> None:
    """Write a little text of a skill, `NAME.jsonl`: questions with their answers, of which none is in a task."""
    rows = [
        {"input": question.prompt, "target": question.answer}
        for question in skill.questions("train", TEXTS, seed="text")
    ]
    (folder / f"{skill.name}.jsonl").write_text("".join(f"{json.dumps(own)}\n" for own in rows), encoding="utf-8")


def task_name(skill: Skill, part: Part) -> str:
    """Name the task of a part: the public one carries the skill's own name."""
    return skill.name if part == "public" else f"{skill.name}-{part}"


def row(question: Question) -> tuple[str, str | int, str, str]:
    mixed = choices(question)
    if not mixed:
        return question.prompt, question.answer, "", "generation"
    return question.prompt, mixed.index(question.answer), json.dumps(mixed), "multiple_choice"


TASK = """\
name: {name}
data: {name}.csv
metrics: [{metric}]
weight: 1.0
license: Apache-2.0
prompt:
  template: "{{input}}"
  stop: ["\\n"]
  max_new_tokens: 10
  choice_separator: " "
"""
