"""A `task.yaml`: the data file, the metrics, the weight and the prompt of a task, checked key by key."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cuvee.documents.checked import checked
from cuvee.documents.document import Document, read_document, read_text
from cuvee.errors import EvaluationError
from cuvee.evaluation.metrics import check_metrics, default_metrics
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.prompt_yaml import as_prompt
from cuvee.evaluation.rows import read_samples
from cuvee.evaluation.task import Task
from cuvee.recipe.prompt import WrittenPrompt


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _TaskFile(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: str
    metrics: Annotated[list[str], Field(min_length=1)] | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    prompt: WrittenPrompt = WrittenPrompt()
    license: str | None = None


def read_task_yaml(path: Path) -> Task:
    """Read a `task.yaml` and its data file, which is looked for beside it."""
    written = checked(_TaskFile, read_task_document(path))
    samples = read_samples(_data_file(path, written.data))
    metrics = tuple(written.metrics or default_metrics(samples))
    check_metrics(metrics, samples, where=str(path))
    return Task(
        name=written.name,
        samples=samples,
        metrics=metrics,
        weight=written.weight,
        prompt=as_prompt(written.prompt, Prompt()),
        license=written.license,
    )


def read_task_document(path: Path) -> Document:
    """Read the YAML of a task or of a suite. Raises EvaluationError."""
    return read_document(read_text(path, "task", EvaluationError), str(path), EvaluationError)


def _data_file(path: Path, name: str) -> Path:
    data = path.parent / name
    if data.suffix not in (".csv", ".jsonl", ".txt"):
        raise EvaluationError(f"data is '{name}', which is neither .csv nor .jsonl nor .txt", where=str(path))
    if not data.is_file():
        raise EvaluationError(f"the data file {data} does not exist", where=str(path))
    return data
