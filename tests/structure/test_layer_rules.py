"""The rules of layers say what transformers derives, and what they write says the same of the layers moved."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from cuvee.structure.expression import ExpressionError, evaluate, names_in
from cuvee.structure.layer_rules import UnwritableError, depth_said, facts, families, rewritten

transformers = pytest.importorskip("transformers")

DEPTHS = (1, 2, 5, 6, 13)
WINDOWS: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}


def written(family: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Give configs of a family with what an older program would have written: no lists, other numbers of its keys."""
    rules = families()[family].rules
    keys = {key: value for rule in rules for key, value in rule.defaults.items()}
    numbers = [{key: 3} for key, value in keys.items() if type(value) is int]
    for settings in ({}, *numbers, {key: value for key, value in WINDOWS.items() if key in keys}):
        for depth in DEPTHS:
            kind = transformers.CONFIG_MAPPING[family]
            counted = kind.attribute_map.get("num_hidden_layers", "num_hidden_layers")
            try:
                config = kind(**{counted: depth, **settings})
            except Exception:  # noqa: BLE001  # some families take no such depth
                continue
            if families()[family].counts:
                continue  # nothing but a list says how many layers there are
            if any(getattr(config, rule.fact, None) is None for rule in rules if rule.has_list):
                continue  # nothing is derived where the config has no list
            plain = {**json.loads(config.to_json_string()), **settings, "model_type": family}
            yield config, {key: value for key, value in plain.items() if key not in derived_lists(family)}


@pytest.mark.parametrize("family", families())
def test_a_family_of_the_rules_is_one_of_transformers(family: str) -> None:
    assert family in transformers.CONFIG_MAPPING
    assert families()[family].source


def derived_lists(family: str) -> list[str]:
    """List the lists that a family's loader derives where a config has none."""
    rules = families()[family].rules
    return [rule.fact for rule in rules if rule.has_list and rule.fact not in names_in(rule.says)]


@pytest.mark.parametrize("family", [family for family in families() if derived_lists(family)])
def test_a_list_is_derived_as_transformers_derives_it(family: str) -> None:
    lists = derived_lists(family)
    configs = list(written(family))
    assert configs or family == "nemotron_h", f"transformers makes no config of {family}"
    for config, plain in configs:
        said = facts(plain, config.num_hidden_layers)
        for key in lists:
            assert list(said.values[key]) == list(getattr(config, key)), f"{key}: {plain}"


@pytest.mark.parametrize("family", families())
def test_what_is_rewritten_says_the_same_of_each_layer_at_its_new_place(family: str) -> None:
    draw = random.Random(family)
    for config, plain in written(family):
        depth = config.num_hidden_layers
        before = facts(plain, depth)
        cut = [draw.randrange(depth) for _ in range(draw.randrange(1, 2 * depth + 1))]
        wanted = {fact: [values[layer] for layer in cut] for fact, values in before.values.items()}
        try:
            changes = rewritten(plain, depth, wanted, len(cut))
        except UnwritableError:
            continue
        after = facts({**plain, **changes}, len(cut))
        assert [after.of(place) for place in range(len(cut))] == [before.of(layer) for layer in cut]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(i + 1) % 4 == 0", False),
        ("'a' if i in [1, 2] else 'b'", "b"),
        ("{'M': 1}[letters[0]] - 2", -1),
        ("missing is None and not i == 2", True),
        ("where(letters)[count(letters) - 1]", 1),
    ],
)
def test_expressions_are_evaluated_as_python_does(text: str, value: Any) -> None:
    assert evaluate(text, {"i": 4, "letters": "MA"}) == value


@pytest.mark.parametrize("text", ["i.real", "__import__('os')", "[i for i in [1]]", "lambda: 1", "i ** i", "f'{i}'"])
def test_expressions_know_no_more_of_python_than_they_need(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text, {"i": 4})


def test_letters_for_kinds_of_layers_are_read() -> None:
    config = {"model_type": "nemotron_h", "hybrid_override_pattern": "M-*E"}
    kind = transformers.CONFIG_MAPPING["nemotron_h"]
    assert depth_said(config) == 4
    assert list(facts(config, 4).values["layers_block_type"]) == kind(hybrid_override_pattern="M-*E").layers_block_type


def test_a_config_whose_values_do_not_fit_is_told() -> None:
    with pytest.raises(ExpressionError, match=r"i % attn_layer_period == attn_layer_offset.*modulo by zero"):
        facts({"model_type": "jamba", "attn_layer_period": 0}, 4)
    with pytest.raises(ExpressionError, match="'layer_types' has 1 entries for 4 layers"):
        facts({"model_type": "gemma2", "layer_types": ["full_attention"]}, 4)
