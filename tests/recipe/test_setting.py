"""Values of parameters: mergekit's forms, their resolution and their checks."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.recipe.setting import Choice, Range, Setting, parse_value, value_at

TENSOR = "model.layers.3.mlp.up_proj.weight"

numbers = st.floats(-1e6, 1e6)
steps = st.booleans() | st.sampled_from(["a", "b", "c"])
depths = st.integers(2, 100).flatmap(lambda n: st.integers(0, n - 1).map(lambda k: (k, n)))
gradients = st.lists(numbers, min_size=1, max_size=6)
filters = st.none() | st.just("*") | st.sampled_from(["mlp", "self_attn", "up_proj", "layers.3.", ""])
entries = st.builds(
    lambda name, value: {"filter": name, "value": value} if name is not None else {"value": value},
    filters,
    numbers | gradients,
)
forms = numbers | gradients | entries | st.lists(entries, min_size=1, max_size=4)


def naive_gradient(stops: list, t: Fraction):
    """METHODS 2.2 in exact arithmetic: s = t·(m−1), i = ⌊s⌋, (1−frac)·v_i + frac·v_{i+1}; others v[int(s)]."""
    s = t * (len(stops) - 1)
    i = s.numerator // s.denominator
    if isinstance(stops[i], bool | str) or i == len(stops) - 1:
        return stops[i]
    return float((1 - (s - i)) * Fraction(stops[i]) + (s - i) * Fraction(stops[i + 1]))


def naive_value(scopes: list[dict], name: str, tensor: str, t: Fraction):
    for scope in scopes:
        if name not in scope:
            continue
        written = scope[name]
        listed = [written] if isinstance(written, dict) else written
        if not (isinstance(listed, list) and isinstance(listed[0], dict)):
            listed = [{"value": written}]
        for entry in listed:
            wanted = entry.get("filter")
            if wanted is None or wanted == "*" or wanted in tensor:
                value = entry["value"]
                return naive_gradient(value if isinstance(value, list) else [value], t)
    return None


@given(stops=gradients, depth=depths)
def test_a_gradient_of_numbers_is_linear_between_its_stops(stops, depth):
    k, n = depth
    found = Choice(tuple(stops)).at(k / (n - 1))
    assert found == pytest.approx(naive_gradient(stops, Fraction(k, n - 1)), rel=1e-9, abs=1e-6)


@given(stops=st.lists(steps, min_size=1, max_size=100), depth=depths)
def test_a_gradient_of_booleans_or_texts_takes_the_stop_at_or_before(stops, depth):
    k, n = depth
    same_kind = [stop for stop in stops if type(stop) is type(stops[0])]
    assert Choice(tuple(same_kind)).at(k / (n - 1)) == naive_gradient(same_kind, Fraction(k, n - 1))


@given(layers=st.integers(2, 200))
def test_as_many_stops_as_layers_give_each_layer_its_own(layers):
    choice = Choice(tuple(f"stop {k}" for k in range(layers)))
    assert [choice.at(k / (layers - 1)) for k in range(layers)] == list(choice.stops)


@given(scopes=st.lists(st.dictionaries(st.sampled_from(["weight", "density"]), forms), max_size=4), depth=depths)
def test_the_first_scope_with_a_matching_value_wins(scopes, depth):
    k, n = depth
    parsed = [{name: parse_value(written) for name, written in scope.items()} for scope in scopes]
    found = value_at(parsed, "weight", TENSOR, k / (n - 1))
    expected = naive_value(scopes, "weight", TENSOR, Fraction(k, n - 1))
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-6))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0.5, (Choice((0.5,)),)),
        (True, (Choice((True,)),)),
        ("max", (Choice(("max",)),)),
        ([0, 1], (Choice((0, 1)),)),
        ([True, False], (Choice((True, False)),)),
        ({"filter": "mlp", "value": 1}, (Choice((1,), "mlp"),)),
        ({"value": 1}, (Choice((1,)),)),
        ({"filter": None, "value": 1}, (Choice((1,)),)),
        ([{"filter": "mlp", "value": [0, 1]}, {"value": 2}], (Choice((0, 1), "mlp"), Choice((2,)))),
    ],
)
def test_every_form_of_a_value_is_read(written, expected):
    assert parse_value(written) == expected


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ([], "found an empty list"),
        (None, "found None"),
        ([1, True], "values of one kind"),
        ([1, "a"], "values of one kind"),
        ([[0, 1]], "expected a number"),
        ([{"value": 1}, 0.5], "expected a number"),
        ({"filter": "mlp"}, "expected {filter, value}"),
        ({"filter": 3, "value": 1}, "a text as filter"),
        ({"filters": "mlp", "value": 1}, "expected {filter, value}"),
        ({"value": []}, "found an empty list"),
        ({"value": {"value": 1}}, "expected a number"),
    ],
)
def test_other_forms_are_refused(written, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_value(written)


@pytest.mark.parametrize(
    ("setting", "good", "bad"),
    [
        (Setting("w", "number"), [1, 0.5, -3, 1e300], [True, "1", float("nan"), float("inf"), 10**400, None]),
        (Setting("d", "number", within=Range(0, 1)), [0, 1, 0.5], [-1e-9, 1.0000001, 2]),
        (Setting("d", "number", within=Range(0, 1, open_low=True, open_high=True)), [0.5], [0, 1]),
        (Setting("k", "integer", within=Range(1)), [1, 2.0, 10], [0, 1.5, True]),
        (Setting("b", "boolean"), [True, False], [0, 1, "true"]),
        (Setting("c", "text", choices=("sum", "count")), ["sum"], ["Sum", 1, True]),
    ],
)
def test_a_setting_complains_of_values_it_cannot_take(setting, good, bad):
    assert [setting.complaint(value) for value in good] == [None] * len(good)
    assert all("expected" in (setting.complaint(value) or "") for value in bad)


def test_a_range_says_which_ends_it_has():
    assert str(Range(0, 1)) == "[0, 1]"
    assert str(Range(0, None, open_low=True)) == "(0, inf)"
    assert str(Range(None, 2, open_high=True)) == "(-inf, 2)"
    assert str(Range()) == "any number"
