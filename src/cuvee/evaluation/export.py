"""A task for lm-eval: `NAME.yaml` and `NAME.jsonl`, so that anyone can check a score with the standard harness.

Prompts are written out, few-shot examples and all, because the harness puts them together in ways of its own. Settings
that it lacks are refused: a chat template, which it applies itself, and sampling, whose draws would be others.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from cuvee.errors import EvaluationError
from cuvee.evaluation.metrics import needs_more_than_answers
from cuvee.evaluation.output import writing
from cuvee.evaluation.task import Sample, Task

CHOICE_METRICS = ("acc", "acc_norm", "acc_bytes")


def export_to_lm_eval(task: Task, folder: str | Path) -> Path:
    """Write a task into a folder for `lm_eval --include_path FOLDER --tasks NAME`; return the YAML file.

    lm-eval's `acc` is the accuracy by `sum`, `acc_norm` by `per_character` and `acc_bytes` by `per_byte`.
    """
    _check(task)
    place = Path(folder)
    data = place / f"{task.name}.jsonl"
    rows = [_row(sample, task) for sample in task.samples]
    choices = task.samples[0].eval_type == "multiple_choice"
    written = {
        "task": task.name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.absolute())}},
        "test_split": "test",
        # Names of columns: lm-eval evaluates what a template gives, and makes a list of "[1, 2]".
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "target_delimiter": task.prompt.separator,
        **(_choosing() if choices else _writing(task)),
        "metadata": {"version": 1.0, "cuvee_task_digest": task.digest},
    }
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        file = place / f"{task.name}.yaml"
        file.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def _check(task: Task) -> None:
    kinds = {sample.eval_type for sample in task.samples}
    problem = None
    other = needs_more_than_answers(task.metrics, task.samples)
    if other is not None:
        problem = f"has {other}"
    elif any(sample.second for sample in task.samples):
        problem = "has items of two texts"
    elif len(kinds) > 1:
        problem = "mixes multiple choice and generation"
    elif task.prompt.chat_template:
        problem = "asks by a chat template; leave it out and use lm-eval's --apply_chat_template"
    elif task.prompt.temperature > 0:
        problem = "samples"
    elif kinds == {"multiple_choice"} and task.prompt.answer_by == "generation":
        problem = "answers multiple choice by generation"
    elif any(sample.target is None for sample in task.samples):
        problem = "has items without a target"
    if problem is not None:
        raise EvaluationError(f"task '{task.name}' {problem}, which cannot be written for lm-eval")


def _row(sample: Sample, task: Task) -> dict[str, Any]:
    row = {
        "id": sample.id,
        "prompt": task.prompt.render(sample.input, sample.choices),
        "target": sample.target,
    }
    return {**row, "choices": sample.choices} if sample.eval_type == "multiple_choice" else row


def _choosing() -> dict[str, Any]:
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "metric_list": [_mean(name) for name in CHOICE_METRICS],
    }


def _writing(task: Task) -> dict[str, Any]:
    patterns = [extraction.regex for extraction in task.prompt.extract[:1]]
    steps = [{"function": "regex", "regex_pattern": pattern} for pattern in patterns]
    filters = [{"name": "extracted", "filter": [*steps, {"function": "take_first"}]}] if steps else []
    return {
        "output_type": "generate_until",
        "generation_kwargs": {
            "until": list(task.prompt.stop),
            "max_gen_toks": task.prompt.max_new_tokens,
            "do_sample": False,
        },
        "metric_list": [{**_mean("exact_match"), "ignore_case": False, "ignore_punctuation": False}],
        **({"filter_list": filters} if filters else {}),
    }


def _mean(metric: str) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}
