"""Config classes say which settings of a config.json matter: what a family takes by itself is no difference."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

from huggingface_hub.errors import StrictDataclassError  # noqa: E402  # after the skip

from cuvee.structure.layer_rules import family_of  # noqa: E402
from cuvee.structure.settings import LENGTHS, Difference, decides, differences  # noqa: E402

from .zoo import FAMILIES  # noqa: E402

OLDER = [json.loads(line) for line in Path(__file__).with_name("older_configs.jsonl").read_text("utf-8").splitlines()]
"""Configs as models of the hub have them, most in the words of transformers 4."""


def saved(config: Any) -> dict[str, Any]:
    return dict(json.loads(config.to_json_string(use_diff=False)))


def again(config: Any, saved: dict[str, Any]) -> dict[str, Any] | None:
    """The same class's reading of a changed config; None where it refuses it."""
    try:
        return dict(json.loads(type(config).from_dict(saved).to_json_string(use_diff=False)))
    except (ValueError, StrictDataclassError):
        return None


def settings_of(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of the top level that may decide something."""
    for key, value in config.items():
        if decides(key) and not isinstance(value, dict) and key != "layer_types":
            yield key, value


@pytest.fixture(params=FAMILIES)
def config(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param]().config


def test_a_config_is_like_one_without_what_the_class_takes_by_itself(config: Any) -> None:
    whole = saved(config)
    for own, theirs in ((whole, whole), (whole, short(config)), (short(config), whole)):
        assert differences(own, theirs) == []
    for key, _ in settings_of(whole):
        if again(config, without(whole, key)) == whole:
            assert differences(whole, without(whole, key)) == [], key
            assert differences(without(whole, key), whole) == [], key


def test_another_value_of_a_setting_is_one_difference(config: Any) -> None:
    whole = saved(config)
    rules = {key for rule in family_of(whole).rules for key in (*rule.keys, *rule.write, *rule.vary)}
    fields = {field.name for field in dataclasses.fields(config)}
    for key, value in settings_of(whole):
        changed = {**whole, key: another(value)}
        if key not in fields - rules or changed == whole or again(config, changed) in (None, whole):
            continue
        assert differences(whole, changed) == [Difference(key, value, changed[key], key not in LENGTHS)]


@pytest.mark.parametrize("older", OLDER, ids=lambda config: config["model_type"])
def test_a_config_in_older_words_is_like_what_transformers_writes_for_it(older: dict[str, Any]) -> None:
    config = transformers.AutoConfig.for_model(**json.loads(json.dumps(older)))
    for newer in (saved(config), short(config)):
        assert differences(older, newer) == []
        assert differences(newer, older) == []


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value * 2 if isinstance(value, int | float) else value


def without(config: dict[str, Any], key: str) -> dict[str, Any]:
    return {other: value for other, value in config.items() if other != key}


def short(config: Any) -> dict[str, Any]:
    """The config as transformers writes it without what is usual."""
    return {**json.loads(config.to_json_string(use_diff=True)), "model_type": config.model_type}
