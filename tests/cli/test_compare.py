"""`cuvee compare`: the same figures as a table of any width, as JSON and as a page."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.cli import main
from cuvee.cli.comparison_table import comparison_lines
from cuvee.testing import TINY_LLAMA, random_weights, write_model


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = {**TINY_LLAMA, "num_hidden_layers": 13}
    base = random_weights(0, config=config)
    for i, name in enumerate(("base", "a", "b", "c", "d", "e")):
        write_model(tmp_path / name, random_weights(i, base=base, config=config) if i else base, config=config)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", "compare", *arguments])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_json_has_every_figure(family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "base", "a", "b", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(cuvee.compare(["base", "a", "b"]).to_json()))


def test_the_base_can_be_named(family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "a", "--base", "base", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["base"], found["models"], found["total"]["pairs"]) == ("base", ["a"], [])


def test_a_table_shows_the_figures_under_their_names(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, "base", "a", "b") == 0
    out = capsys.readouterr().out
    pair = cuvee.compare(["base", "a", "b"]).total.pairs[0]
    shares = [f"{100 * share:.1f}%" for share in (pair.sign_conflict, pair.overlap)]
    assert f"A·B {round(pair.cosine, 3):.3f} {' '.join(shares)}" in " ".join(out.split())


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(family: Path, width: int) -> None:
    found = cuvee.compare(["base", "a", "b", "c", "d", "e"])
    lines = list(comparison_lines(found, width))
    assert max(map(len, lines[1:])) <= max(width, 45)
    heads = [line for line in lines if line.startswith(("layer", "role"))]
    shown = [word for line in heads for word in line.split()[1:]]
    pairs = [f"{a}·{b}" for i, a in enumerate("ABCDE") for b in "ABCDE"[i + 1 :]]
    assert sorted(shown) == sorted(2 * [*"ABCDE", *pairs, *pairs, *pairs])


def test_many_layers_are_shown_in_spans(family: Path) -> None:
    lines = list(comparison_lines(cuvee.compare(["base", "a"]), 80))
    start = next(i for i, line in enumerate(lines) if line.startswith("layer"))
    assert [line.split()[0] for line in lines[start + 1 : start + 9]] == [
        "0–1", "2–3", "4–5", "6–7", "8–9", "10–11", "12", "outside",
    ]  # fmt: skip


def test_what_is_left_out_is_said(family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    weights = random_weights(1, config={**TINY_LLAMA, "vocab_size": 65})
    write_model(family / "wider", weights | {"position_ids": np.arange(3)})
    assert run(monkeypatch, "a", "wider") == 0
    said = capsys.readouterr().err
    assert "left out: model.embed_tokens.weight, shapes differ: 64×32 in a, 65×32 in wider" in said
    assert "more tensors, which --json lists" in said


def test_the_page_is_written(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "base", "a", "b", "--out", "page.html") == 0
    assert "<title>Task vectors side by side</title>" in (family / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("out", ["a", "nowhere/page.html"])
def test_a_page_that_cannot_be_written_is_refused_before_reading(
    family: Path, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, "base", "a", "--out", out) == 2
    said = capsys.readouterr().err
    assert "the page is written to a file" in said
    assert "compare:" not in said


def test_a_model_that_is_not_there_is_a_missing_input(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, "base", "nobody") == 3
    assert "nobody" in capsys.readouterr().err
