"""Reads a task: from a `.csv`, a `.jsonl` or a `task.yaml`, or by the name of a bundled task.

A bare data file is scored by `accuracy` if all its rows are multiple choice, by `spearman` if they are similarities, by
`bits_per_byte` if they are texts, else by `exact_match`. A `.txt` file is a task, too: its pieces are texts.
"""

from importlib.util import find_spec
from pathlib import Path

from cuvee import demo
from cuvee.arguments import at_home
from cuvee.errors import EvaluationError, closest
from cuvee.evaluation.metrics import check_metrics, default_metrics
from cuvee.evaluation.rows import read_samples
from cuvee.evaluation.task import Task
from cuvee.evaluation.task_yaml import read_task_yaml
from cuvee.extras import install_command
from cuvee.nearest import nearest


def load_task(where: str | Path) -> Task:
    """Read a task from a `.csv`, `.jsonl` or `.yaml` file, or by the name of a bundled task.

    All problems of a file are raised together as an EvaluationError, each with its file and line.
    """
    path = at_home(where)
    if path.suffix in (".yaml", ".yml"):
        return read_task_yaml(_existing(path))
    if path.suffix in (".csv", ".jsonl", ".txt"):
        return _bare_task(_existing(path))
    return read_task_yaml(_bundled(str(where)))


def _existing(path: Path) -> Path:
    if not path.is_file():
        hint = nearest(str(path), suffixes=(".csv", ".jsonl", ".txt", ".yaml", ".yml"))
        raise EvaluationError("no such task file", where=str(path), hint=hint)
    return path


def _bundled(name: str) -> Path:
    names = demo.task_names()
    if name in names:
        return demo.task_file(name)
    guess = closest(name, names)
    meant = f"did you mean '{guess}'? " if guess else ""
    public = ", ".join(task for task in names if not task.endswith("-private"))
    others = f"a .csv, .jsonl, .txt or .yaml file is a task, too, and lm-eval:NAME is one of lm-eval's{_to_install()}"
    raise EvaluationError(f"there is no bundled task '{name}'", hint=f"{meant}there are {public}; {others}")


def _to_install() -> str:
    return "" if find_spec("lm_eval") else f", which `{install_command('lm-eval')}` installs"


def _bare_task(path: Path) -> Task:
    samples = read_samples(path)
    metrics = default_metrics(samples)
    check_metrics(metrics, samples, where=str(path))
    return Task(name=path.stem, samples=samples, metrics=metrics)
