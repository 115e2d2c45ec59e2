"""`cuvee suggest`: a table and sentences, JSON, adapters, and refusals."""

import json
import sys
from pathlib import Path

import pytest

import cuvee
from cuvee import demo
from cuvee.cli import main
from cuvee.engine.adapters import extract_adapter
from cuvee.engine.extract import Extraction
from cuvee.suggest.advice import advice_of
from cuvee.suggest.rules import read_rules
from cuvee.suggest.suggest import suggest

BASE, *EXPERTS = (str(demo.model_folder(name)) for name in (demo.BASE, *demo.expert_names()))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", "suggest", *arguments])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_the_table_has_every_expert_and_the_advice_a_scale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, BASE, *EXPERTS) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(expert in out for expert in EXPERTS)
    assert "add them by task_arithmetic with lambda about 0." in out
    assert "on families left out" in out


def test_json_has_the_figures_and_the_advice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, *EXPERTS[:2], "--base", BASE, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    total = cuvee.compare([BASE, *EXPERTS[:2]]).total
    assert document["cosines"] == pytest.approx([pair.cosine for pair in total.pairs])
    assert document["advice"][0]["error"] < document["advice"][0]["rival_error"]


def test_the_scale_of_the_bundled_family_is_near_what_was_measured() -> None:
    """The best is about 0.37, and the rule says how far it may be off."""
    scale = next(entry for entry in suggest([BASE, *EXPERTS]).advice if entry.question == "scale of task_arithmetic")
    assert 0.37 / scale.error <= scale.value <= 0.37 * scale.error


def test_texts_add_losses_and_an_expert_loses_least_on_its_own(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = demo.expert_names()[2:4]
    models = [demo.model_folder(name) for name in (demo.BASE, *names)]
    suggestion = suggest(models, texts=[demo.text_file(name) for name in names], tokens=300, device="cpu")
    losses = suggestion.survey.changes.losses
    assert losses[1][0] < losses[0][0]
    assert losses[1][0] < losses[2][0]
    assert losses[2][1] < losses[1][1]


def test_adapters_are_experts_too(tmp_path: Path) -> None:
    references = []
    for name in ("sort", "shift"):
        extract_adapter(str(demo.model_folder(name)), BASE, tmp_path / name, Extraction())
        references.append(f"{BASE}+{tmp_path / name}")
    changes = suggest([BASE, *references]).survey.changes
    whole = suggest([BASE, str(demo.model_folder("sort")), str(demo.model_folder("shift"))]).survey.changes
    assert all(norm < other for norm, other in zip(changes.norms, whole.norms, strict=True))
    assert advice_of(changes, read_rules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BASE, EXPERTS[0]), "expected a base and at least two experts, found 2 models"),
        ((BASE, *EXPERTS[:2], "--texts", "a.jsonl"), "there are 2 experts and 1 texts"),
        ((BASE, EXPERTS[0], "no/such/model"), "no/such/model"),
        ((BASE, BASE, EXPERTS[0]), "this expert changes nothing in the base"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: tuple[str, ...], message: str
) -> None:
    assert run(monkeypatch, *arguments) in (2, 3)
    assert message in capsys.readouterr().err
