"""A document held against its form: lines, misspelt keys, and the forms that a key can have."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from cuvee.documents.checked import checked, keys_at
from cuvee.documents.document import Path, read_document
from cuvee.errors import EvaluationError, RecipeError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Entry(Strict):
    model: str
    weight: Annotated[float, Field(gt=0)] = 1.0


class Other(Strict):
    count: int


class Form(Strict):
    entries: list[Entry]
    by_name: dict[str, Entry] = {}
    either: str | Other | None = None
    pair: tuple[Entry, ...] | None = None
    free: dict[str, float] = {}


@pytest.mark.parametrize(
    ("place", "keys"),
    [
        ((), ["entries", "by_name", "either", "pair", "free"]),
        (("entries", 0), ["model", "weight"]),
        (("by_name", "x"), ["model", "weight"]),
        (("either",), ["count"]),
        (("either", "Other"), ["count"]),
        (("pair", 1), ["model", "weight"]),
        (("free",), []),
    ],
)
def test_a_form_knows_its_keys_at_each_place(place: Path, keys: list[str]) -> None:
    assert keys_at(Form, place) == keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "entries:\n  - model: a\n    wieght: 2",
            "a.yaml:3: unknown key 'entries.0.wieght'\n  hint: did you mean 'weight'?",
        ),
        (
            "entries:\n  - model: a\n    zzz: 2",
            "a.yaml:3: unknown key 'entries.0.zzz'\n  hint: known keys: model, weight",
        ),
        (
            "entries:\n  - a",
            "a.yaml:2: 'entries.0': expected 'name: value' lines, found 'a'\n  hint: write `- model: a`",
        ),
        ("entries:\n  - weight: 1.0", "a.yaml:2: 'entries.0.model' is missing"),
        ("entries: []\nfree: {x: y}", "a.yaml:2: 'free.x': input should be a valid number, found 'y'"),
        ("- a", "a.yaml:1: 'the file': expected 'name: value' lines, found ['a']"),
    ],
)
def test_a_problem_has_its_line_and_what_was_meant(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        checked(Form, read_document(text, "a.yaml"))
    assert str(caught.value) == message


def test_problems_are_of_the_kind_that_the_reader_asks_for() -> None:
    with pytest.raises(EvaluationError, match="written twice"):
        read_document("a: 1\na: 2", "task.yaml", EvaluationError)
    with pytest.raises(EvaluationError, match="is missing"):
        checked(Form, read_document("free: {}", "task.yaml", EvaluationError))


def test_a_number_in_scientific_notation_is_a_number() -> None:
    assert checked(Form, read_document("entries: []\nfree: {x: 1e-4}", "a.yaml")).free == {"x": 1e-4}
