"""The command: any model and any text to statistics."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from cuvee import demo  # after the skips
from cuvee.checkpoint import weights_digest
from cuvee.cli import main
from cuvee.statistics import open_statistics
from evaluation.conftest import byte_tokenizer
from evaluation.families import make_network


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_writes_statistics_of_a_bundled_model_and_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(demo.model_folder("sort"))
    assert run(["calibrate", folder, "sort", str(tmp_path / "out"), "--tokens", "2000", "--json"], monkeypatch) == 0
    printed = json.loads(capsys.readouterr().out)
    found = open_statistics(tmp_path / "out")
    assert printed["model"]["weights_digest"] == weights_digest(Path(folder)) == found.record.model.weights_digest
    assert printed["text"]["tokens"] >= 2000
    assert found.record.loss is not None
    assert found.record.loss < 0.5  # the model was trained for this
    assert found.record.model.tokens_digest is not None


def test_several_models_are_run_in_turn_as_each_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [f"--expert={demo.model_folder(name)}={name}" for name in ("sort", "shift")]
    asked = [str(tmp_path / "all"), *pairs, "--tokens", "600", "--keep", "mean", "--json"]
    assert run(["calibrate", *asked], monkeypatch) == 0
    printed = json.loads(capsys.readouterr().out)
    alone = [str(demo.model_folder("shift")), "shift", str(tmp_path / "alone"), "--tokens", "600", "--keep", "mean"]
    assert run(["calibrate", *alone], monkeypatch) == 0

    records = [open_statistics(tmp_path / "all" / name).record for name in ("sort", "shift")]
    assert [record["model"]["weights_digest"] for record in printed.values()] == [
        record.model.weights_digest for record in records
    ]
    first, second = (tmp_path / name / "statistics.safetensors" for name in ("all/shift", "alone"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out", "--expert", "a/sort=t", "--expert", "b/sort=t"], "two models are called sort"),
        (["out", "--expert", "sort"], "expected MODEL=TEXT"),
        (["sort", "text", "out", "--expert", "sort=text"], "expected OUT alone"),
        (["sort", "out"], "expected MODEL TEXT OUT"),
    ],
)
def test_slips_in_naming_several_models_are_found_before_anything_runs(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate", *arguments], monkeypatch) == 2
    assert words in capsys.readouterr().err


def test_of_several_models_none_runs_if_an_output_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shift").mkdir()
    pairs = [f"--expert={demo.model_folder(name)}={name}" for name in ("sort", "shift")]
    assert run(["calibrate", str(tmp_path), *pairs], monkeypatch) == 2
    assert "the output exists already" in capsys.readouterr().err
    assert not (tmp_path / "sort").exists()


def test_a_private_part_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate", str(demo.model_folder("sort")), "sort-private", str(tmp_path / "out")], monkeypatch) == 2
    assert "private part" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_too_little_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "text.txt"
    words.write_text("a few words")
    assert run(["calibrate", str(demo.model_folder("sort")), str(words), str(tmp_path / "out")], monkeypatch) == 2
    assert "256 at least" in capsys.readouterr().err


def test_an_unknown_setting_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["calibrate", str(demo.model_folder("sort")), "sort", str(tmp_path / "out"), "--positions", "some"]
    assert run(arguments, monkeypatch) == 2
    assert "positions 'some' is none of all, answer, prompt" in capsys.readouterr().err


def test_a_base_and_an_adapter_are_run_as_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, expert, lora = demo.model_folder("base"), demo.model_folder("sort"), tmp_path / "lora"
    run(["adapters", "extract", str(expert), str(base), str(lora), "--rank", "4"], monkeypatch)
    for model, name in ((str(base), "base"), (f"{base}+{lora}", "both")):
        assert run(["calibrate", model, "sort", str(tmp_path / name), "--tokens", "2000"], monkeypatch) == 0
    plain, both = (open_statistics(tmp_path / name).record for name in ("base", "both"))
    assert plain.model.fingerprint != both.model.fingerprint
    assert both.loss is not None
    assert plain.loss is not None
    assert both.loss < plain.loss


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("zamba 2", "its blocks cannot be run alone: block 1 is off by"),
        ("gemma 3n", "its blocks cannot be run alone: hidden states of"),
        ("t5", "it has an encoder and a decoder"),
    ],
)
def test_models_whose_blocks_say_nothing_alone_are_refused(
    family: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_network(family).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"input": f"number {number}, please", "target": "yes"} for number in range(40)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["calibrate", str(tmp_path / "model"), str(tmp_path / "text.jsonl"), str(tmp_path / "out")]
    assert run(arguments, monkeypatch) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_chats_are_rendered_by_the_template_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.loads(line) for line in demo.text_file("sort").read_text(encoding="utf-8").splitlines()[:40]]
    chats = []
    for line in lines:
        turns = [{"role": "user", "content": line["input"]}, {"role": "assistant", "content": line["target"]}]
        chats.append(json.dumps({"messages": turns}) + "\n")
    (tmp_path / "chats.jsonl").write_text("".join(chats), encoding="utf-8")
    (tmp_path / "plain.jinja").write_text("{{ bos_token }}{{ messages | map(attribute='content') | join(' ') }}")
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    asked = ["calibrate", str(demo.model_folder("sort"))]
    places = [str(tmp_path / name) for name in ("chats.jsonl", "out", "plain.jinja", "rows.jsonl", "other", "none")]

    assert run([*asked, *places[:2]], monkeypatch) != 0
    assert "no chat template" in capsys.readouterr().err
    assert run([*asked, *places[:2], "--template", places[2]], monkeypatch) == 0
    assert run([*asked, *places[3:5]], monkeypatch) == 0
    own, other = (open_statistics(tmp_path / name).record for name in ("out", "other"))
    assert own.text.digest == other.text.digest
    assert run([*asked, places[0], places[5], "--template", places[5]], monkeypatch) == 2
    assert "cannot read a chat template" in capsys.readouterr().err
