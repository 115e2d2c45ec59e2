"""YAML with places: what PyYAML reads as it should, what it would read wrongly or drop."""

from pathlib import PurePosixPath

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.documents.document import in_yaml, read_document
from cuvee.errors import RecipeError

scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    scalars, lambda t: st.lists(t, max_size=4) | st.dictionaries(st.text(), t, max_size=4), max_leaves=8
)


def read(text: str):
    return read_document(text, "r.yaml").data


@settings(max_examples=50)
@given(trees)
def test_what_pyyaml_writes_is_read_back(tree):
    assert read(yaml.safe_dump(tree)) == tree


@settings(max_examples=50)
@given(trees)
def test_data_is_written_as_yaml_that_reads_the_same(tree):
    assert read(in_yaml(tree)) == tree


@pytest.mark.parametrize("text", ["1e-4", "2024-01-01", "yes", "<<", ".inf", "0x1f", "é: [", ""])
def test_a_text_that_looks_like_something_else_is_written_in_quotes(text):
    assert read(in_yaml({text: text})) == {text: text}


def test_other_objects_are_no_data():
    with pytest.raises(RecipeError, match=r"expected plain numbers, texts, lists and mappings, found .*Path"):
        in_yaml({"model": PurePosixPath("a")})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2e3", -2e3),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("1.5e-3", 1.5e-3),
        ("+1e+2", 100.0),
    ],
)
def test_numbers_with_an_exponent_are_numbers(text, number):
    assert read(f"a: {text}") == {"a": number}


@pytest.mark.parametrize("text", ["e4", "1e", "1e4x", "0x1g", "1.2.3", "2024-01-01", "2024-13-45"])
def test_what_only_looks_like_a_number_or_a_date_stays_text(text):
    assert read(f"a: {text}") == {"a": text}


def test_places_name_the_line_of_each_thing():
    document = read_document("a: 1\nb:\n  - x: 2\n    y:\n      z: 3\n", "r.yaml")
    assert document.place(("a",)) == "r.yaml:1"
    assert document.place(("b", 0, "x")) == "r.yaml:3"
    assert document.place(("b", 0, "y", "z")) == "r.yaml:5"
    assert document.place(("b", 0, "missing")) == "r.yaml:3"
    assert document.place(("missing",)) == "r.yaml:1"


def test_anchors_and_merge_keys_work():
    """Of a list the first wins, as YAML says; of two '<<' the later. PyYAML 6.0.4 goes by keys' length."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\nd: {<<: *b}\ne: *a\nf: {<<: *a, <<: *b}\n"
    assert read(text) == {
        "a": {"x": 1, "y": 1},
        "b": {"y": 2, "z": 2},
        "c": {"x": 1, "y": 1, "z": 3},
        "d": {"y": 2, "z": 2},
        "e": {"x": 1, "y": 1},
        "f": {"x": 1, "y": 2, "z": 2},
    }


def test_a_key_next_to_a_merge_wins_on_either_side_of_it():
    assert read("a: &a {x: 1}\nb: {x: 2, <<: *a}\nc: {<<: *a, x: 2}") == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 2}}


def test_a_repeated_key_is_refused_with_both_lines():
    with pytest.raises(RecipeError, match=r"r\.yaml:3: key 'a' is written twice, first on line 1"):
        read("a: 1\nb: 2\na: 3")


def test_a_repeated_key_is_told_once_however_often_it_is_referred_to():
    with pytest.raises(RecipeError) as caught:
        read("a: &a {x: 1, x: 2}\nb: *a\nc: *a")
    assert caught.value.problems == ()
    assert caught.value.where == "r.yaml:1"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "r.yaml", "found nothing"),
        ("# only a comment\n", "r.yaml", "found nothing"),
        ("a: 1\n---\nb: 2\n", "r.yaml", "found 2 documents"),
        ("a: 1\nb: [1, 2\n", "r.yaml:3", "not YAML"),
        ("a: 1\n\tb: 2\n", "r.yaml:2", "not YAML"),
        ("a: *nowhere\n", "r.yaml:1", "undefined alias"),
        ("a: 1\nb: \x00\n", "r.yaml:2", "not allowed"),
        ("a: 1\n? [x, y]\n: 2\n", "r.yaml:2", "a word as key"),
        ("a: 1\n<<: 3\n", "r.yaml:2", "expected a mapping"),
        ("a: 1\nb: !!bool maybe\n", "r.yaml:2", "cannot read the value 'maybe'"),
        ("a: 1\nb: !mine {}\n", "r.yaml:2", "the tag '!mine' means nothing"),
    ],
)
def test_what_is_not_one_plain_document_is_refused_with_its_place(text, where, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read(text)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("space", "named"),
    [("\t", "a tab"), ("\u00a0", r"U\+00A0"), ("\u3000", r"U\+3000"), ("\u200b ", r"U\+200B")],
)
def test_a_line_indented_by_what_only_looks_like_spaces_is_named(space, named):
    with pytest.raises(RecipeError, match=f"line 2 begins with {named}"):
        read(f"a:\n{space} - b: 1\n  - b: 2\n")


def test_a_tab_elsewhere_in_the_text_is_not_blamed():
    with pytest.raises(RecipeError) as caught:
        read("a: |\n  x\n  \ty\n\n\nb: 1\nc: [1\n")
    assert caught.value.hint is None
