"""References to models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.recipe.reference import ModelRef, parse_reference

words = st.text(st.characters(codec="ascii", exclude_characters="@+", categories=["L", "N", "P"]), min_size=1)


@given(
    st.builds(ModelRef, words, st.none() | words)
    | st.builds(ModelRef, words, st.none() | words, words, st.none() | words)
)
def test_a_reference_reads_back_from_its_text(reference):
    assert parse_reference(str(reference)) == reference


def test_the_parts_of_a_reference():
    reference = parse_reference("org/name@main+other/adapter@v2")
    assert reference == ModelRef("org/name", "main", "other/adapter", "v2")
    assert reference.without_revisions == "org/name+other/adapter"
    assert reference.looks_like_hub_name
    assert not parse_reference("./folder").looks_like_hub_name


@pytest.mark.parametrize("text", ["", "  ", "@main", "+adapter", "a@", "a+", "a@+b", "a+@v", "a+b@", "a@b@c", "a+b+c"])
def test_an_incomplete_reference_is_refused(text):
    with pytest.raises(ValueError, match=r"needs a path|nothing follows|expected one"):
        parse_reference(text)
