"""A suite: a YAML file that lists tasks, each with a weight that replaces the task's own.

    name: kit
    tasks:
      - {task: cosmos_qa.csv, weight: 2}
      - xsum.yaml
      - sort

A task is a file beside the suite, or the name of a bundled task.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cuvee.documents.checked import checked
from cuvee.errors import EvaluationError
from cuvee.evaluation.load import load_task
from cuvee.evaluation.task import Task
from cuvee.evaluation.task_yaml import read_task_document

SUFFIXES = (".csv", ".jsonl", ".txt", ".yaml", ".yml")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _mapping(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


class _Entry(_Strict):
    task: str
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class _Suite(_Strict):
    name: str
    tasks: Annotated[list[Annotated[_Entry, BeforeValidator(_mapping)]], Field(min_length=1)]


def load_tasks(where: str | Path) -> list[Task]:
    """Read the tasks of a suite, or the single task that `load_task` reads."""
    path = Path(where)
    if not _is_suite(path):
        return [load_task(where)]
    suite = checked(_Suite, read_task_document(path))
    return [_weighed(path, entry) for entry in suite.tasks]


def _weighed(suite: Path, entry: _Entry) -> Task:
    if entry.task.endswith(SUFFIXES):
        if _is_suite(place := suite.parent / entry.task):
            raise EvaluationError(f"'{entry.task}' is a suite; a suite lists tasks only", where=str(suite))
        task = load_task(place)
    else:
        task = load_task(entry.task)
    return task if entry.weight is None else replace(task, weight=entry.weight)


def _is_suite(path: Path) -> bool:
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    written = read_task_document(path).data
    return isinstance(written, dict) and "tasks" in written
