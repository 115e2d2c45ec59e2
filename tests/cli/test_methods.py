"""`cuvee methods`: what a recipe can name is listed, and shown in full under its name."""

import json
import sys

import pytest

from cuvee.catalogue import modifiers, registry, weight_rules
from cuvee.cli import main

EVERYTHING = [*registry(), *weight_rules(), *modifiers()]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", "methods", *arguments])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_json_lists_methods_weight_rules_and_modifiers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["key"] for entry in listed] == EVERYTHING
    assert {entry["kind"] for entry in listed} == {"coefficient", "element", "matrix", "weight rule", "modifier"}
    for entry in listed:
        assert entry["formula"]
        assert entry["summary"]
        assert all({"default", "range", "choices"} <= set(setting) for setting in entry["settings"])


@pytest.mark.parametrize("key", EVERYTHING)
def test_each_is_shown_in_full(key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, key) == 0
    shown = capsys.readouterr().out
    entry = {**registry(), **weight_rules(), **modifiers()}[key]
    words = " ".join(shown.split())
    assert " ".join(entry.formula.split()) in words
    assert " ".join(entry.summary.split()) in words
    assert entry.paper in words
    for setting in entry.settings.values():
        assert setting.name in words
    assert max(map(len, shown.splitlines())) <= 80


def test_one_as_json_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "lines", "--json") == 0
    entry = json.loads(capsys.readouterr().out)
    assert (entry["key"], entry["kind"], entry["source"]) == ("lines", "modifier", "arXiv:2410.17146")


def test_a_misspelt_weight_rule_has_a_hint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "metagtp") == 2
    assert "did you mean 'metagpt'?" in capsys.readouterr().err
