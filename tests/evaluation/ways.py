"""How a few questions are read by each family. `PYTHONPATH=tests python -m evaluation.ways` writes the docs' record."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers

from cuvee.evaluation import Prompt, Sample, Shot
from cuvee.evaluation.choices import choose
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.question import Question
from cuvee.evaluation.tokenise import make_questions

from .conftest import byte_tokenizer
from .families import FAMILIES, PLACES, WINDOW, make_network

RECORD = Path(__file__).parent / "ways.json"
"""The release of transformers that was measured, and of each family what `ways_of` returns."""

QUESTIONS = [
    ("Which?", ("A", "B", "C", "D")),
    ("What did the fox do then?", ("run", "run away", "run away fast", "r")),
    ("q", ("yes", "no")),
    ("A longer context with\nseveral lines, and then some more.", ("ü", "x", "a much longer answer")),
    ("What did the fox do now?", ("sleep", "eat")),
]
SAMPLES = [Sample(str(n), text, "multiple_choice", choices) for n, (text, choices) in enumerate(QUESTIONS)]
PLAIN_PROMPT = Prompt(max_new_tokens=4)
SHARED_PROMPT = Prompt(template="Q: {input} A:", few_shot=(Shot("What did?", "bark"), Shot("cat?", "meow")))


def language_model(network: Any, *, places: int = PLACES) -> LanguageModel:
    return LanguageModel("made", "d", network, byte_tokenizer(), places)


def ways_of(model: LanguageModel) -> dict[str, Any]:
    """Return how a model reads rows within the window, and the five questions, of which two are longer than it.

    `times_fewer_tokens` compares with one sequence for each choice: the tokens of those, by the tokens shown here.
    `rows_enter` says whether rows may enter a batch of texts that others have left, within the window and past it.
    """
    abilities = model.abilities
    within_window = "one row" if abilities.branches(WINDOW) else abilities.way(WINDOW).name
    choose_all(model)
    before = abilities.meter.reading
    choose_all(model)
    reading = abilities.meter.reading.since(before)
    plain = sum(plain_tokens(make_questions(model, SAMPLES, prompt)) for prompt in (PLAIN_PROMPT, SHARED_PROMPT))
    return {
        "model_type": model.network.config.model_type,
        "within_window": within_window,
        "five_questions": sorted(reading.items),
        "times_fewer_tokens": round(plain / reading.shown, 1),
        "rows_enter": all(map(abilities.joins, (WINDOW, PLACES // 4))),
    }


def choose_all(model: LanguageModel) -> None:
    for prompt in (PLAIN_PROMPT, SHARED_PROMPT):
        for _ in choose(model, SAMPLES, prompt, batch_size=16):
            pass


def plain_tokens(questions: Sequence[Question]) -> int:
    return sum(len(each.prefix) + len(choice) - 1 for each in questions for choice in each.choices)


def main() -> None:
    """Measure every family anew."""
    ways = {name: ways_of(language_model(make_network(name))) for name in FAMILIES}
    record = {"transformers": transformers.__version__, "families": ways}
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
