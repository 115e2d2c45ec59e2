"""The questions for opposites of examples/smollm2: from WordNet's own lines, each with one right choice."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("peft")

EXAMPLES = Path(__file__).parents[2] / "examples" / "smollm2"
PAIRS = (("hot", "cold"), ("fast", "slow"), ("wet", "dry"), ("rough", "smooth"), ("able", "unable"))


@pytest.fixture(scope="module")
def forgotten() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    import forgotten

    yield forgotten
    sys.path.remove(str(EXAMPLES))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a file of adjectives in WordNet's form, its licence first. The second word of each is opposed."""
    lines = ["  1 This software and database is being provided"]
    for number, (word, opposite) in enumerate(PAIRS):
        first, second = f"{2 * number:08}", f"{2 * number + 1:08}"
        pointers = f"002 & {second} a 0000 ! {second} a 0201"
        lines.append(f"{first} 00 a 02 a_synonym 0 {word}(p) 1 {pointers} | a gloss; ! {second} a 0101")
        lines.append(f"{second} 00 s 01 {opposite} 0 002 ! {first} a 0102 ! {first} n 0101 | a gloss  ")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "data.adj").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_opposites_are_those_that_wordnet_points_at(forgotten: ModuleType, work: Path) -> None:
    assert forgotten.antonyms(work) == {pair for word, other in PAIRS for pair in ((word, other), (other, word))}


def test_a_question_has_one_right_choice(forgotten: ModuleType, work: Path) -> None:
    opposites = dict(forgotten.antonyms(work))
    questions = list(forgotten.opposites(work))
    assert len(questions) == 2 * len(PAIRS) - 2  # 'unable' gives 'able' away
    for question in questions:
        word = question["input"].removeprefix("The opposite of ").removesuffix(" is")
        assert question["target"] == opposites[word]
        assert len({*question["answer_choices"], word}) == forgotten.CHOICES + 1
        assert question["target"] in question["answer_choices"]
    assert questions == list(forgotten.opposites(work))
