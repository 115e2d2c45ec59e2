"""`cuvee doctor`: sound blends are called sound, and models broken on purpose are called broken, with the reason."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cuvee
from cuvee import demo
from cuvee.cli import main
from cuvee.doctor import Diagnosis, Kinship, Signs, examine
from cuvee.doctor.examine import read_text
from cuvee.doctor.findings import findings
from cuvee.doctor.signs import divergence, read_passages, repetition
from cuvee.errors import EvaluationError
from cuvee.evaluation import load_model, load_task
from evaluation.conftest import byte_tokenizer, save_model

EXPERTS = ("reverse", "sort")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the bundled family was trained on: questions with their answers."""
    place = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [sample for name in EXPERTS for sample in load_task(name).samples[:3]]
    place.write_text("\n\n".join(f"{sample.input} {sample.target}" for sample in lines))
    return place


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    folder = tmp_path_factory.mktemp("blends")

    def make(scale: float) -> Path:
        recipe, out = folder / f"{scale}.yaml", folder / f"blend-{scale}"
        models = "".join(f"  - model: {demo.model_folder(name)}\n    parameters: {{weight: 1}}\n" for name in EXPERTS)
        recipe.write_text(
            f"merge_method: task_arithmetic\nbase_model: {demo.model_folder('base')}\nmodels:\n{models}"
            f"parameters: {{lambda: {scale}}}\ndtype: bfloat16\n"
        )
        if not out.exists():
            cuvee.merge(cuvee.load_recipe(recipe), out)
        return out

    return make


def broken(tmp_path: Path, change: Callable[[torch.nn.Module], None]) -> Path:
    from transformers import LlamaForCausalLM

    folder = save_model(tmp_path / "model", byte_tokenizer())
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder)
    return folder


def test_a_good_blend_is_sound(blend: Callable[[float], Path], text: Path) -> None:
    found = examine(blend(0.5), text=text, device="cpu")
    assert (found.verdict, found.findings, found.notes) == ("sound", (), ())
    assert sorted(Path(each.parent).name for each in found.parents) == ["base", *EXPERTS]
    assert all(each.divergence is not None and 0 < each.divergence < 2 for each in found.parents)
    assert found.seconds < 60


def test_a_blend_of_far_too_much_is_broken(blend: Callable[[float], Path], text: Path) -> None:
    found = examine(blend(6.0), text=text, device="cpu")
    assert found.verdict == "broken"
    assert "reads text worse than any parent" in found.findings[0].message


def test_weights_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    found = examine(broken(tmp_path, lambda model: model.model.norm.weight[:3].fill_(math.nan)), device="cpu")
    assert [finding.message for finding in found.findings] == [
        "3 weights are not finite numbers",
        "its output is not a number",
    ]
    assert found.verdict == "broken"
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["signs"]["loss"] is None


def test_a_model_that_only_guesses_is_broken(tmp_path: Path) -> None:
    found = examine(broken(tmp_path, lambda model: model.lm_head.weight.zero_()), device="cpu")
    assert found.verdict == "broken"
    assert found.signs.entropy_share == pytest.approx(1.0)
    assert found.signs.perplexity == pytest.approx(len(byte_tokenizer()), rel=1e-4)
    assert any("it guesses" in finding.message for finding in found.findings)


def test_a_model_that_always_says_the_same_is_broken(tmp_path: Path) -> None:
    def shout(model: torch.nn.Module) -> None:
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight[:1].expand(len(byte_tokenizer()), -1))
        model.lm_head.weight.mul_(50)

    found = examine(broken(tmp_path, shout), device="cpu")
    messages = " ".join(finding.message for finding in found.findings)
    assert found.verdict == "broken"
    assert "writes the same whatever it is asked" in messages
    assert "writes in loops" in messages
    assert "certain everywhere" in messages


def test_a_model_is_at_no_distance_from_itself() -> None:
    model = load_model(demo.model_folder("sort"), device="cpu")
    reading = read_passages(model, ["Sort: 3 1 2 -> 1 2 3"])
    assert divergence(reading, reading) == (0.0, 1.0)


def test_divergence_by_hand() -> None:
    one, other = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.5, 0.25]]).log()
    from cuvee.doctor.signs import Reading

    found = divergence(Reading(([1, 2],), (one,)), Reading(([1, 2],), (other,)))
    assert found == (pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2)), 0.0)
    assert divergence(Reading(([1, 2],), (one,)), Reading(([1, 3],), (other,))) is None


@pytest.mark.parametrize(
    ("tokens", "share"), [([1, 2, 3, 4, 5], 0.0), ([1] * 7, 0.75), ([1, 2] * 4, 0.6), ([1, 2], 0.0), ([], 0.0)]
)
def test_repetition_counts_sequences_that_were_there_before(tokens: list[int], share: float) -> None:
    assert repetition([tokens]) == pytest.approx(share)


def signs(**changes: float) -> Signs:
    usual = {"tokens": 100, "not_finite": 0, "loss": 3.0, "bits_per_byte": 1.5, "guessing": 8.0}
    return Signs(**{**usual, "entropy": 3.0, "repetition": 0.2, "distinct": 1.0, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, ()),
        ({"loss": 3.3, "bits_per_byte": 1.65}, ("doubtful",)),
        ({"loss": 4.5, "bits_per_byte": 2.25}, ("broken",)),
        ({"repetition": 0.9}, ("broken",)),
        ({"distinct": 0.1}, ("broken",)),
        ({"entropy": 7.99}, ("broken",)),
        ({"entropy": 0.001}, ("broken",)),
    ],
)
def test_a_model_is_held_against_its_parents(changes: dict[str, float], verdict: tuple[str, ...]) -> None:
    parent = Kinship("parent", signs(), 0.1, 0.9)
    assert tuple(finding.severity for finding in findings(signs(**changes), [parent])) == verdict


def test_what_parents_do_too_is_no_finding() -> None:
    odd = {"repetition": 0.9, "distinct": 0.1, "entropy": 0.001, "loss": 9.0, "bits_per_byte": 5.0}
    assert findings(signs(**odd), [Kinship("parent", signs(**odd), 0.1, 0.9)]) == ()
    assert [each.severity for each in findings(signs(), [Kinship("parent", signs(), 3.0, 0.1)])] == ["doubtful"]


def test_no_parent_is_taken_up_when_time_is_over(blend: Callable[[float], Path], text: Path) -> None:
    times = iter([0.0, 50.0, 51.0])
    found = examine(blend(0.5), text=text, device="cpu", clock=lambda: next(times))
    assert (found.parents, found.notes) == ((), ("parents left out after 40 seconds: 3",))
    assert found.seconds == 51.0


def test_a_parent_that_does_not_load_is_a_note(blend: Callable[[float], Path], text: Path, tmp_path: Path) -> None:
    copy = tmp_path / "blend"
    shutil.copytree(blend(0.5), copy)
    record = json.loads((copy / "cuvee.json").read_text())
    unknown = tmp_path / "unknown"
    shutil.copytree(record["inputs"][0]["model"], unknown)
    (unknown / "config.json").write_text('{"model_type": "imaginary"}')
    record["inputs"] = [record["inputs"][0] | {"model": str(unknown)}]
    (copy / "cuvee.json").write_text(json.dumps(record))
    found = examine(copy, text=text, device="cpu")
    assert found.parents == ()
    assert found.notes[0].startswith("a parent cannot be examined: ")


def test_passages_are_shipped_and_an_empty_text_is_refused(tmp_path: Path) -> None:
    assert len(read_text(None)) == 12
    (tmp_path / "empty.txt").write_text(" \n\n ")
    with pytest.raises(EvaluationError, match="the text is empty"):
        read_text(tmp_path / "empty.txt")


@pytest.mark.parametrize(("scale", "code"), [(0.5, 0), (6.0, 3)])
def test_the_command_says_so_and_its_exit_code_too(
    scale: float, code: int, blend: Callable[[float], Path], text: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for options in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["cuvee", "doctor", str(blend(scale)), "--text", str(text), *options])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert (stopped.value.code or 0) == code
        said = capsys.readouterr().out
        if options:
            assert json.loads(said)["verdict"] == ("broken" if code else "sound")
        else:
            assert ("broken: it reads text worse" in said) == bool(code)
            assert "perplexity" in said


def test_a_diagnosis_without_findings_is_sound() -> None:
    assert Diagnosis("m", signs(), (), (), (), 1.0).verdict == "sound"
