"""Recipes made to exhaust, to execute or to deceive: each is one RecipeError, at once."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cuvee
from cuvee.documents.document import read_document
from cuvee.errors import RecipeError

ALIAS_BOMB = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)


def complaint(text: str) -> str:
    started = time.process_time()
    with pytest.raises(RecipeError) as caught:
        cuvee.recipe_from_text(text)
    assert time.process_time() - started < 10
    assert len(str(caught.value)) < 8000
    str(caught.value).encode()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIAS_BOMB, "too large"),
        (MERGE_BOMB, "too large"),
        ("a: &a [*a]\n", "too large"),
        ("a: &a {b: *a}\n", "too large"),
        ("a: &a {<<: *a}\n", "too large"),
        ("a: &a {x: 1}\nb: &b {<<: [" + "*a," * 20_000 + "]}\nc: {<<: [" + "*b," * 20_000 + "]}\n", "too large"),
        ("[" * 100_000, "too large"),
        ("{a: " * 50_000, "too large"),
        ("- " * 100_000, "too large"),
        ("".join(f"{' ' * i}a:\n" for i in range(500)), "too large"),
        ("".join(f"k{i}: 1\n" for i in range(30_000)), "too large"),
        ("#" * (2 << 20), "expected at most 1048576 characters of YAML"),
        ("a: " + "1" * 1_000_000, "cannot read the value '111"),
        ("a: 1." + "1" * 1_000_000, "cannot read the value '1.111"),
        ("a: 1" + ":1" * 400_000, "cannot read the value '1:1"),
        ("a: 0x" + "f" * 1_000_000, "cannot read the value '0xfff"),
    ],
    ids=lambda value: value[:20].replace("\n", " "),
)  # fmt: skip
def test_a_bomb_is_defused(text, message):
    assert message in complaint(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [exit]",
        "a: !!python/name:os.system ''",
        "a: !!python/object:collections.OrderedDict {}",
        "a: !!binary ''",
        "a: !!set {x}",
        "a: !!timestamp 2024-01-01",
        "a: !!int x",
        "a: !!float x",
        "a: !!bool x",
        "!!python/object:os.system {}",
    ],
)
def test_tags_make_no_objects(text):
    with pytest.raises(RecipeError, match=r"means nothing here|cannot read the value"):
        read_document(text, "r.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "x" * 500_000 + ": 1",
        "merge_method: " + "x" * 500_000,
        "merge_method: linear\nmodels: [{model: a}]\nparameters: {" + "x" * 1000 + ": 1}",
        "merge_method: linear\nmodels: " + "x" * 500_000,
        "merge_method: linear\nmodels: [{model: a, parameters: {weight: " + "x" * 10_000 + "}}]",
        "merge_method: linear\nmodels: [{model: a, parameters: {weight: [[" + "1," * 10_000 + "]]}}]",
        "merge_method: linear\nmodels: [{model: '" + "@" * 10_000 + "'}]",
        'merge_method: "\\e[2J"\nmodels: [{model: a}]',
        '"\\uD800": 1',
        '"\\e[2J\\n": 1',
    ],
    ids=lambda text: text[:30].replace("\n", " "),
)
def test_a_huge_or_unprintable_value_makes_no_huge_or_unprintable_message(text):
    assert "\x1b" not in complaint(text)


@settings(max_examples=150)
@given(st.text(max_size=40) | st.text("ab:-[]{}&*!<>|#'\"\n ,?%@`01.e", max_size=40))
def test_random_text_never_raises_anything_else(text):
    with pytest.raises(RecipeError):
        cuvee.recipe_from_text(text)


values = st.recursive(
    st.sampled_from(["a", "1", "0.5", "true", "null", "[]", "{}", "mlp", "-1", ".nan", "1e9", "'x'", "ties", "linear"]),
    lambda v: st.lists(v, max_size=3).map(lambda entries: f"[{', '.join(entries)}]")
    | st.dictionaries(st.sampled_from(["model", "value", "filter", "weight", "sources", "parameters"]), v)
    .map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"),
    max_leaves=8,
)  # fmt: skip
keys = st.sampled_from(
    ["merge_method", "models", "slices", "base_model", "parameters", "dtype", "seed", "name", "modules"]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, values, min_size=1))
def test_random_recipes_are_read_or_refused(pairs):
    text = "".join(f"{key}: {value}\n" for key, value in pairs.items())
    try:
        recipe = cuvee.recipe_from_text(text)
    except RecipeError:
        return
    assert len(recipe.digest) == 64
