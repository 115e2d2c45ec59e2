"""Evaluation from end to end: reports, files, and taking up where a run was stopped."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.checkpoint import weights_digest
from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation import Prompt, Report, Sample, Task, evaluate, load_model, paired_difference
from cuvee.evaluation.model import LanguageModel
from cuvee.extras import install_command

from .conftest import byte_tokenizer, save_model
from .families import PLACES, make_network
from .plants import swallow_cache

CHOICES = Task(
    "choices",
    tuple(
        Sample(str(n), f"Question {n}: {'x' * n}?", "multiple_choice", ("yes", "no", "yes and no"), n % 3)
        for n in range(10)
    ),
    ("accuracy", "f1"),
    weight=3.0,
)
TEXTS = Task(
    "texts",
    (
        *(Sample(f"t{n}", f"Say {'y' * n}", "generation", (), "yes") for n in range(6)),
        Sample("open", "Say what", "generation"),
    ),
    ("exact_match",),
    prompt=Prompt(max_new_tokens=6),
)


class Recorder:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.total = 0
        self.steps: list[int] = []

    def start(self, what: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        self.steps.append(amount)

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def lines(folder: Path, task: str) -> list[str]:
    return (folder / "samples" / f"{task}.jsonl").read_text().splitlines()


def steady(report: Report) -> Report:
    return replace(report, seconds=0.0)


def test_the_report_says_what_was_found(model_folder: Path, tmp_path: Path) -> None:
    report = evaluate(model_folder, [CHOICES, TEXTS], out=tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    choices, texts = report.tasks
    assert report.model_digest == written["model_digest"] == weights_digest(model_folder)
    assert written["tasks"]["choices"]["n"] == 10
    assert written["tasks"]["choices"]["metrics"]["accuracy"]["value"] == sum(i.score or 0 for i in choices.items) / 10
    assert list(written["tasks"]["choices"]["metrics"]) == ["accuracy", "f1"]
    assert set(written["macro"]) == {"n", "value", "standard_error", "low", "high"}
    assert written["macro"]["value"] == pytest.approx((3 * choices.scores[0].value + texts.scores[0].value) / 4)
    assert (texts.scores[0].n, texts.unscored) == (6, 1)
    assert written["notes"] == ["texts: 1 of 7 items have no target and are not scored"]
    assert written["settings"]["scoring"] == "sum"


def test_the_report_says_how_items_were_read(model: LanguageModel, tmp_path: Path) -> None:
    report = evaluate(model, [CHOICES, TEXTS], out=tmp_path)
    assert report.reading["items"] == {"one row": 10, "padded": 7}
    assert report.reading["tokens_shown"] >= report.tokens
    assert json.loads((tmp_path / "report.json").read_text())["reading"] == report.reading
    again = evaluate(model, [CHOICES, TEXTS], out=tmp_path)
    assert again.reading == {"items": {}, "tokens_shown": 0}


def test_a_model_that_is_read_the_plain_way_is_reported_so() -> None:
    network = make_network("llama")
    swallow_cache(network)
    report = evaluate(LanguageModel("made", "d", network, byte_tokenizer(), PLACES), [TEXTS])
    assert report.reading["items"] == {"alone": 7}
    assert "7 of 7 items were read one sequence at a time" in report.notes[0]


def test_the_submission_holds_all_predictions_in_order(model_folder: Path, tmp_path: Path) -> None:
    report = evaluate(model_folder, [CHOICES, TEXTS], out=tmp_path)
    with (tmp_path / "submission.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "prediction", "dummy_field"]
    assert [row[0] for row in rows[1:]] == [sample.id for task in (CHOICES, TEXTS) for sample in task.samples]
    assert [row[1] for row in rows[1:]] == [str(item.prediction) for task in report.tasks for item in task.items]
    assert {row[2] for row in rows[1:]} == {"0"}


def test_tasks_without_targets_give_predictions_only(model: LanguageModel) -> None:
    blind = replace(CHOICES, samples=tuple(replace(sample, target=None) for sample in CHOICES.samples))
    report = evaluate(model, [blind])
    assert (report.macro, report.task("choices").scores) == (None, ())
    assert report.notes == ("choices: no targets; predictions only, not in the macro average",)
    assert len(report.task("choices").items) == 10


def test_items_that_were_cut_are_counted_and_said(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "short", byte_tokenizer(), max_position_embeddings=30)
    report = evaluate(folder, [CHOICES])
    lengths = [1 + len(sample.input) for sample in CHOICES.samples]
    room = 30 - len(" yes and no") + 1
    assert report.task("choices").truncated == sum(length > room for length in lengths) > 0
    assert "cut on the left to fit 30 tokens" in report.notes[0]


def test_a_finished_run_is_not_computed_again(model_folder: Path, tmp_path: Path) -> None:
    first = evaluate(model_folder, [CHOICES, TEXTS], out=tmp_path)
    before = lines(tmp_path, "choices")
    recorder = Recorder()
    second = evaluate(model_folder, [CHOICES, TEXTS], out=tmp_path, progress=recorder)
    assert (recorder.total, recorder.steps) == (17, [10, 7])
    assert steady(first) == steady(second)
    assert lines(tmp_path, "choices") == before


@pytest.mark.parametrize("kept", [1, 400, 900])
def test_a_stopped_run_goes_on_where_it_was(model_folder: Path, tmp_path: Path, kept: int) -> None:
    whole = evaluate(model_folder, [CHOICES], out=tmp_path, batch_size=3)
    file = tmp_path / "samples" / "choices.jsonl"
    complete = file.read_bytes()
    file.write_bytes(complete[:kept])
    recorder = Recorder()
    again = evaluate(model_folder, [CHOICES], out=tmp_path, batch_size=3, progress=recorder)
    assert steady(again) == steady(whole)
    assert sorted(file.read_bytes().splitlines()) == sorted(complete.splitlines())
    assert recorder.steps[0] == complete[:kept].count(b"\n")
    assert sum(recorder.steps) == 10


def test_a_larger_limit_computes_only_the_rest(model_folder: Path, tmp_path: Path) -> None:
    evaluate(model_folder, [CHOICES], out=tmp_path, limit=4)
    recorder = Recorder()
    report = evaluate(model_folder, [CHOICES], out=tmp_path, limit=6, progress=recorder)
    assert (recorder.total, recorder.steps) == (6, [4, 2])
    assert [item.id for item in report.task("choices").items] == ["0", "1", "2", "3", "4", "5"]


def test_another_model_task_or_setting_starts_anew(model_folder: Path, tmp_path: Path) -> None:
    other_model = save_model(tmp_path / "other", byte_tokenizer(), seed=1)
    other_task = replace(CHOICES, prompt=Prompt(choice_separator=""))
    out = tmp_path / "out"
    for model, task, scoring in (
        (model_folder, CHOICES, "sum"),
        (other_model, CHOICES, "sum"),
        (other_model, other_task, "sum"),
        (other_model, other_task, "per_byte"),
    ):
        recorder = Recorder()
        evaluate(model, [task], out=out, scoring=scoring, progress=recorder)
        assert recorder.steps[0] == 0
        assert len(lines(out, "choices")) == 10


def test_a_damaged_line_in_the_middle_is_named(model_folder: Path, tmp_path: Path) -> None:
    evaluate(model_folder, [CHOICES], out=tmp_path)
    file = tmp_path / "samples" / "choices.jsonl"
    file.write_text("oops\n" + file.read_text())
    with pytest.raises(EvaluationError, match=r"choices\.jsonl:1"):
        evaluate(model_folder, [CHOICES], out=tmp_path)


def test_a_loaded_model_serves_several_evaluations(model_folder: Path) -> None:
    loaded = load_model(model_folder, device="cpu")
    reports = [evaluate(loaded, [CHOICES], batch_size=size) for size in (1, 16)]
    found = paired_difference(reports[0], reports[1])
    assert (found.macro.value, found.tasks["choices"].n) == (0.0, 10)


def test_a_mixed_task_scores_the_texts_of_choices(model: LanguageModel) -> None:
    mixed = Task("mixed", CHOICES.samples + TEXTS.samples, ("exact_match",), prompt=TEXTS.prompt)
    report = evaluate(model, [mixed, CHOICES])
    assert report.task("mixed").scores[0].n == 16
    assert [item.score for item in report.task("mixed").items[:10]] == [i.score for i in report.task("choices").items]


def test_weights_that_changed_in_place_start_anew_whatever_cuvee_json_says(tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    save_model(folder, byte_tokenizer(), seed=3)
    before = weights_digest(folder)
    (folder / "cuvee.json").write_text(json.dumps({"weights_digest": before}))
    assert evaluate(folder, [CHOICES], out=out).model_digest == before
    save_model(folder, byte_tokenizer(), seed=4)
    recorder = Recorder()
    report = evaluate(folder, [CHOICES], out=out, progress=recorder)
    assert report.model_digest == weights_digest(folder) != before
    assert recorder.steps[0] == 0
    assert steady(report) == steady(evaluate(folder, [CHOICES]))


def test_a_run_into_the_folder_of_the_model_goes_on_too(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", byte_tokenizer())
    first = evaluate(folder, [CHOICES], out=folder)
    recorder = Recorder()
    second = evaluate(folder, [CHOICES], out=folder, progress=recorder)
    assert recorder.steps == [10]
    assert steady(first) == steady(second)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "vocabulary.json"])
def test_a_changed_file_of_the_tokenizer_or_the_configuration_starts_anew(tmp_path: Path, name: str) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    save_model(folder, byte_tokenizer())
    evaluate(folder, [CHOICES], out=out)
    file = folder / name
    file.write_text((file.read_text() if file.exists() else "{}") + "\n")
    recorder = Recorder()
    evaluate(folder, [CHOICES], out=out, progress=recorder)
    assert recorder.steps[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scoring": "summ"}, "unknown scoring 'summ'"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"device": "tpu"}, "device 'tpu'"),
    ],
)
def test_wrong_arguments_are_refused(model_folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        evaluate(model_folder, [CHOICES], **options)  # type: ignore[arg-type]  # that is the point


def test_two_tasks_of_one_name_are_refused(model_folder: Path) -> None:
    with pytest.raises(RecipeError, match="two tasks are named 'choices'"):
        evaluate(model_folder, [CHOICES, CHOICES])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "there is no config.json"),
        ({"model_type": "bert"}, "cannot load"),
        ({}, "cannot load"),
    ],
)
def test_folders_without_a_model_are_refused(tmp_path: Path, config: dict[str, str] | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EvaluationError, match=message):
        evaluate(tmp_path, [CHOICES])


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_room_imports_no_torch() -> None:
    code = """
import sys, cuvee.evaluation
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    assert run_python(code) == "[]"


def test_a_missing_torch_is_one_sentence() -> None:
    code = """
import sys
sys.modules["torch"] = None
import cuvee.evaluation
try:
    cuvee.evaluation.load_model("anywhere")
except Exception as error:
    print(type(error).__name__, error.hint)
"""
    assert run_python(code) == f"MissingExtra {install_command('eval')}"
