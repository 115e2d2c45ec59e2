#!/bin/sh
# lm-eval takes a right answer that is a number for its place in the list.
#
# Versions:  lm-eval 0.4.13 (580 MB installed, no torch)
# Expected:  The guide for new tasks says that `doc_to_target` gives either the text of the right answer or its index. A
#            column of texts, filled in by "{{answer}}", should then be looked up among the choices, and is: 'seven'.
# Observed:  If the text consists of digits it becomes an int and so an index. 'What is 1 + 0?' with the choices 2, 0, 1
#            and the answer '1' counts '0' as right. An answer larger than the list ends the run with "list index out of
#            range"; one that fits gives a wrong score and no word. Tasks of arithmetic, dates and counts are hit.
# Instead:   Let the task give the index itself: doc_to_target: "{{choices.index(answer)}}".
#
# Seen, for a model that always prefers the right answer:
#   answers in words:            accuracy 1.0
#   answers in digits:           accuracy 0.0
#   in digits, by choices.index: accuracy 1.0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet lm-eval==0.4.13
cd "$work"
export HF_HUB_OFFLINE=1 HF_HOME="$work/hub" HF_DATASETS_CACHE="$work/datasets" TRANSFORMERS_VERBOSITY=error
export HF_DATASETS_DISABLE_PROGRESS_BARS=1
"$work/venv/bin/python" - 2>"$work/talk" <<'PY' || { status=$?; tail -3 "$work/talk" >&2; exit $status; }
import json
from pathlib import Path

import yaml
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

ROWS = [
    {"question": "1 + 0?", "choices": ["2", "0", "1"], "answer": "1"},
    {"question": "2 - 2?", "choices": ["1", "0", "2"], "answer": "0"},
    {"question": "1 + 1?", "choices": ["2", "1", "0"], "answer": "2"},
]
WORDS = {"0": "none", "1": "one", "2": "two"}
RIGHT = {row["question"]: row["answer"] for row in ROWS}


class Knowing(LM):
    """A model to which the right answer is always the likeliest."""

    def loglikelihood(self, requests):
        found = []
        for request in requests:
            question, answer = request.args
            right = RIGHT[question.removesuffix(" Answer:")]
            found.append((0.0 if answer.strip() in (right, WORDS[right]) else -5.0, False))
        return found

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


def accuracy(name, rows, target):
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(Path(f"{name}.jsonl").resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}} Answer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": target,
        "metric_list": [{"metric": "acc"}],
    }
    Path("tasks").mkdir(exist_ok=True)
    Path(f"tasks/{name}.yaml").write_text(yaml.safe_dump(task))
    tasks = TaskManager(include_path="tasks", include_defaults=False)
    return simple_evaluate(Knowing(), tasks=[name], task_manager=tasks, bootstrap_iters=0)["results"][name]["acc,none"]


in_words = []
for row in ROWS:
    choices = [WORDS[choice] for choice in row["choices"]]
    in_words.append({**row, "choices": choices, "answer": WORDS[row["answer"]]})
words = accuracy("words", in_words, "{{answer}}")
digits = accuracy("digits", ROWS, "{{answer}}")
mended = accuracy("mended", ROWS, "{{choices.index(answer)}}")
print("answers in words:            accuracy", words)
print("answers in digits:           accuracy", digits)
print("in digits, by choices.index: accuracy", mended)
if words != 1 or mended != 1:
    raise SystemExit("changed: the model that knows all no longer scores 1.0 in the other two")
if digits == 1:
    raise SystemExit("changed: answers of digits are looked up among the choices")
PY
