"""The same scores as lm-eval 0.4.13, on tasks that we export and it runs.

lm-eval needs an environment of its own, for its libraries are many and want other versions than ours. `make lm-eval`
makes one; CUVEE_LM_EVAL names the Python in it. Without it these tests are skipped.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cuvee.errors import EvaluationError, MissingExtra
from cuvee.evaluation import Extraction, Prompt, Sample, Shot, Task, evaluate
from cuvee.evaluation.export import export_to_lm_eval
from cuvee.evaluation.model import LanguageModel
from cuvee.extras import install_command

from .conftest import byte_tokenizer, save_model
from .lm_eval_kinds import GROUPS, KINDS, write_kinds

HERE = Path(__file__).parent
WORDS = ("run", "run away", "hide", "é", "sleep a very long while", "no", "say “yes”", "漢字", "A", "x y z")


def question(number: int) -> Sample:
    choices = tuple(WORDS[(number * 3 + step * step) % len(WORDS)] for step in range(2 + number % 3))
    text = f"Item {number}: what did the fox do{' then' * (number % 7)}?"
    return Sample(str(number), text, "multiple_choice", tuple(dict.fromkeys((*choices, "wait"))), number % 2)


CHOICES = Task(
    "choices",
    tuple(question(number) for number in range(300)),
    ("accuracy",),
    prompt=Prompt(template="Q: {input}\nA:", few_shot=(Shot("What is it?", "a fox"),)),
)
TEXTS = Task(
    "texts",
    tuple(Sample(str(n), f"Say {'y' * n}", "generation", (), "yes") for n in range(12)),
    ("exact_match",),
    prompt=Prompt(max_new_tokens=6, stop=("\n\n",)),
)


@pytest.fixture(scope="session")
def lm_eval_python() -> str:
    named = os.environ.get("CUVEE_LM_EVAL")
    if named is None and find_spec("lm_eval") is None:
        pytest.skip("no lm-eval here; `make lm-eval` makes an environment, CUVEE_LM_EVAL names its Python")
    return named or sys.executable


@pytest.fixture(scope="module")
def theirs(lm_eval_python: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("exported")
    for task in (CHOICES, TEXTS):
        export_to_lm_eval(task, folder)
    return answer_of(lm_eval_python, "lm_eval_driver.py", model_folder, folder, "choices", "texts")


def answer_of(python: str, driver: str, model: Path, folder: Path, *names: str) -> Any:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    paths = {"PYTHONPATH": str(HERE.parents[1] / "src")}
    command = [python, str(HERE / driver), str(model), str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **offline, **paths}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def lines(model: LanguageModel, task: Task, out: Path, scoring: str = "sum") -> list[dict[str, Any]]:
    evaluate(model, [task], out=out, scoring=scoring)  # type: ignore[arg-type]  # a name from the test's list
    return [json.loads(line) for line in (out / "samples" / f"{task.name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("scoring", "metric"), [("sum", "acc"), ("per_byte", "acc_bytes"), ("per_character", "acc_norm")]
)
def test_accuracies_equal_item_by_item(
    theirs: Any, model: LanguageModel, tmp_path: Path, scoring: str, metric: str
) -> None:
    ours = {line["id"]: line["metrics"]["accuracy"] for line in lines(model, CHOICES, tmp_path, scoring)}
    assert len(ours) == 300
    assert ours == {line["id"]: line["metrics"][metric] for line in theirs["samples"]["choices"]}


def test_log_likelihoods_equal(theirs: Any, model: LanguageModel, tmp_path: Path) -> None:
    ours = {line["id"]: line for line in lines(model, CHOICES, tmp_path)}
    for line in theirs["samples"]["choices"]:
        found = [choice["log_likelihood"] for choice in ours[line["id"]]["choices"]]
        assert np.abs(np.array(found) - line["scores"]).max() < 1e-4
        assert ours[line["id"]]["prompt"] == line["prompt"]


def test_texts_equal(theirs: Any, model: LanguageModel, tmp_path: Path) -> None:
    ours = {line["id"]: line["text"] for line in lines(model, TEXTS, tmp_path)}
    assert ours == {line["id"]: line["text"] for line in theirs["samples"]["texts"]}


def test_their_results_are_in_our_report(theirs: Any) -> None:
    found = theirs["report"]["tasks"]["choices"]["metrics"]
    assert list(found) == ["acc", "acc_norm", "acc_bytes"]
    assert found["acc"]["n"] == 300
    assert found["acc"]["low"] < found["acc"]["value"] < found["acc"]["high"]


@pytest.fixture(scope="module")
def compared(lm_eval_python: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What lm-eval itself, and lm-eval through us, find for each kind of task file, and which names it knows."""
    folder = tmp_path_factory.mktemp("kinds")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    model = save_model(folder / "model", tokenizer, max_position_embeddings=512)
    write_kinds(folder / "tasks")
    return answer_of(lm_eval_python, "lm_eval_kinds_driver.py", model, folder / "tasks")


@pytest.fixture(scope="module")
def kinds(compared: Any) -> Any:
    return compared["kinds"]


def test_names_of_lm_eval_are_known_without_a_prefix(compared: Any) -> None:
    assert compared["names"] == {"mmlu": True, "gsm8k": True, "no_such_task": False}


def test_answers_in_other_types_of_numbers_are_not_taken_for_those_asked(compared: Any, kinds: Any) -> None:
    first = kinds["bits_per_byte"]["ours"]["tasks"]["bits_per_byte"]["figures"]
    again, anew = (compared["again"][place]["bits_per_byte"]["figures"] for place in ("bits_per_byte", "anew"))
    assert again == anew
    assert again != first


@pytest.mark.parametrize("kind", [*KINDS, *GROUPS])
def test_each_kind_of_task_file_has_lm_eval_s_numbers(kinds: Any, kind: str) -> None:
    theirs, ours = kinds[kind]["theirs"], kinds[kind]["ours"]
    for name, task in ours["tasks"].items():
        expected = figures_of(theirs["results"][name])
        measured = task["metrics"] | task["figures"]
        assert task["n"] == theirs["n-samples"][name]["effective"]
        assert_equal_figures(measured, expected)


@pytest.mark.parametrize("group", list(GROUPS))
def test_groups_have_lm_eval_s_numbers(kinds: Any, group: str) -> None:
    theirs, ours = kinds[group]["theirs"], kinds[group]["ours"]
    assert_equal_figures(ours["groups"][group], figures_of(theirs["groups"][group]))
    assert ours["macro"]["value"] == pytest.approx(theirs["groups"][group]["acc,none"], abs=1e-9)


def test_two_filters_give_two_scores_of_all_items(kinds: Any) -> None:
    task = kinds["filters"]["ours"]["tasks"]["filters"]
    assert list(task["metrics"]) == ["exact_match,strict", "exact_match,flexible"]
    assert [score["n"] for score in task["metrics"].values()] == [30, 30]
    assert task["metrics"]["exact_match,strict"]["value"] == 0
    assert 0 < task["metrics"]["exact_match,flexible"]["value"] < 1


def test_what_is_no_share_is_in_no_macro_average(kinds: Any) -> None:
    ours = kinds["bits_per_byte"]["ours"]
    assert ours["macro"] is None
    assert list(ours["tasks"]["bits_per_byte"]["figures"]) == ["word_perplexity", "byte_perplexity", "bits_per_byte"]
    assert ours["notes"] == [
        "asked as the model's recipe or the caller says, not as the tasks do: chat_template",
        "bits_per_byte: word_perplexity, byte_perplexity, bits_per_byte: of the whole task, not in the macro average",
    ]


def figures_of(results: dict[str, Any]) -> dict[str, tuple[float, float | None]]:
    """Return value and standard error by the name that our report gives a metric."""
    keys = [key for key in results if "," in key and "_stderr," not in key]
    several = len({key.split(",")[1] for key in keys}) > 1
    figures = {}
    for key in keys:
        metric, chosen = key.split(",")
        error = results[f"{metric}_stderr,{chosen}"]
        figures[key if several else metric] = (results[key], None if error == "N/A" else error)
    return figures


def assert_equal_figures(measured: dict[str, Any], expected: dict[str, tuple[float, float | None]]) -> None:
    assert measured.keys() == expected.keys()
    for metric, (value, error) in expected.items():
        assert measured[metric]["value"] == pytest.approx(value, rel=1e-6, abs=1e-6), metric
        if error is None:
            assert measured[metric]["standard_error"] is None
        else:
            assert measured[metric]["standard_error"] == pytest.approx(error, rel=1e-6, abs=1e-6), metric


def test_a_task_is_written_as_lm_eval_reads_it(tmp_path: Path) -> None:
    written = yaml.safe_load(export_to_lm_eval(CHOICES, tmp_path).read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (tmp_path / "choices.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (written["task"], written["output_type"], written["target_delimiter"]) == ("choices", "multiple_choice", " ")
    assert [each["metric"] for each in written["metric_list"]] == ["acc", "acc_norm", "acc_bytes"]
    assert rows[1] == {
        "id": "1",
        "prompt": CHOICES.prompt.render(CHOICES.samples[1].input),
        "target": 1,
        "choices": list(CHOICES.samples[1].choices),
    }


@pytest.mark.parametrize("task", [CHOICES, TEXTS])
def test_texts_are_taken_from_columns_as_they_are(tmp_path: Path, task: Task) -> None:
    """What a template gives is evaluated: the target `[1, 2]` becomes a list, and the prompt `7` a place."""
    written = yaml.safe_load(export_to_lm_eval(task, tmp_path).read_text(encoding="utf-8"))
    assert (written["doc_to_text"], written["doc_to_target"]) == ("prompt", "target")


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (Task("t", (*CHOICES.samples[:1], *TEXTS.samples[:1]), ("exact_match",)), "mixes"),
        (Task("t", TEXTS.samples, ("f1",), prompt=Prompt(chat_template=True)), "chat template"),
        (Task("t", TEXTS.samples, ("f1",), prompt=Prompt(temperature=1.0)), "samples"),
        (Task("t", (Sample("0", "q", "generation"),), ("f1",)), "without a target"),
    ],
)
def test_what_lm_eval_cannot_be_told_is_refused(tmp_path: Path, task: Task, problem: str) -> None:
    with pytest.raises(EvaluationError, match=problem):
        export_to_lm_eval(task, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_becomes_a_filter(tmp_path: Path) -> None:
    task = Task("t", TEXTS.samples, ("f1",), prompt=Prompt(extract=(Extraction(r"is (\d+)"),)))
    written = yaml.safe_load(export_to_lm_eval(task, tmp_path).read_text(encoding="utf-8"))
    assert written["filter_list"][0]["filter"][0] == {"function": "regex", "regex_pattern": r"is (\d+)"}


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed here")
def test_without_lm_eval_the_extra_is_named(model: LanguageModel) -> None:
    with pytest.raises(MissingExtra) as caught:
        evaluate(model, ["lm-eval:hellaswag"])
    assert caught.value.hint == install_command("lm-eval")


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed here")
def test_for_an_unknown_task_it_is_said_how_lm_eval_s_are_installed(model: LanguageModel) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(model, ["mmlu"])
    assert install_command("lm-eval") in str(caught.value.hint)
