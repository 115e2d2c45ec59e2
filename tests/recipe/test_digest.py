"""Digests of recipes: the same for the same meaning, another for another."""

import os
import subprocess
import sys

import pytest

import cuvee

TIES = """
merge_method: ties
base_model: base
models:
  - model: a
    parameters: {weight: 1, density: 0.5}
  - model: b
    parameters: {weight: [0, 1]}
"""


def digest(text: str) -> str:
    return cuvee.recipe_from_text(text).digest


@pytest.mark.parametrize(
    ("this", "that"),
    [
        ("weight: 1,", "weight: 1.0,"),
        ("weight: 1,", "weight: [1],"),
        ("weight: 1,", "weight: {value: 1},"),
        ("weight: 1,", "weight: [{filter: '*', value: 1}],"),
        ("weight: 1,", "weight: 1e0,"),
        ("{weight: 1, density: 0.5}", "{density: 0.5, weight: 1}"),
        ("{weight: 1, density: 0.5}", "\n      density: 5e-1  # half\n      weight: 1"),
        ("[0, 1]", "[-0.0, 1]"),
        ("[0, 1]", "[{filter: null, value: [0, 1]}]"),
        ("base_model: base", "base_model: 'base'\nseed: 0\nsemantics: mergekit\ncompute_dtype: float32\nparameters:"),
        ("base_model: base", "base_model: base\nname: a name changes nothing"),
    ],
)
def test_another_spelling_has_the_same_digest(this, that):
    assert this in TIES
    assert digest(TIES.replace(this, that)) == digest(TIES)


@pytest.mark.parametrize(
    ("this", "that"),
    [
        ("weight: 1,", "weight: 1.0000001,"),
        ("weight: 1,", "weight: {filter: mlp, value: 1},"),
        ("[0, 1]", "[1, 0]"),
        ("method: ties", "method: dare_ties"),
        ("model: a", "model: c"),
        ("model: a", "name: x\n    model: a"),
        ("base_model: base", "base_model: a"),
        ("base_model: base", "base_model: base\nseed: 1"),
        ("base_model: base", "base_model: base\nsemantics: paper"),
        ("base_model: base", "base_model: base\ndtype: float16"),
        ("base_model: base", "base_model: base\nout_dtype: float16"),
        ("base_model: base", "base_model: base\nparameters: {normalize: true}"),
    ],
)
def test_another_meaning_has_another_digest(this, that):
    assert this in TIES
    assert digest(TIES.replace(this, that)) != digest(TIES)


def test_the_order_of_the_models_is_part_of_the_meaning():
    head, first, second = TIES.split("  - ")
    assert digest("".join([head, "  - ", second, "  - ", first])) != digest(TIES)


def test_digests_are_the_same_in_another_process_and_reading_imports_no_torch():
    code = (
        "import sys, cuvee; print(cuvee.recipe_from_text(sys.argv[1]).digest);"
        "print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    options = {"capture_output": True, "text": True, "check": True, "env": {**os.environ, "PYTHONHASHSEED": "12345"}}
    printed = subprocess.run([sys.executable, "-c", code, TIES], **options).stdout
    assert printed.split() == [digest(TIES)]
