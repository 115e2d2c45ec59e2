"""Measures models on tasks: multiple choice by log-likelihood, generation, metrics, statistics.

Importing this room imports neither torch nor transformers; `evaluate` and `load_model` do when they are called.
The room itself can be called: `cuvee.evaluate("out", ["task.csv"])` is `cuvee.evaluate.evaluate(...)`, because a
package and a function of one name cannot both be an attribute of `cuvee`.
"""

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cuvee.evaluate.extract import Extraction
from cuvee.evaluate.prompt import Prompt, Shot
from cuvee.evaluate.ranking import Ranking, Standing, rank
from cuvee.evaluate.report import Item, Report, Score, TaskReport
from cuvee.evaluate.run import evaluate
from cuvee.evaluate.statistics import Difference, Estimate, Gap, paired_difference
from cuvee.evaluate.suite import load_tasks
from cuvee.evaluate.task import Sample, Task, load_task

if TYPE_CHECKING:
    from cuvee.evaluate.model import Device, Dtype, LanguageModel

__all__ = [
    "Difference",
    "Estimate",
    "Extraction",
    "Gap",
    "Item",
    "Prompt",
    "Ranking",
    "Report",
    "Sample",
    "Score",
    "Shot",
    "Standing",
    "Task",
    "TaskReport",
    "evaluate",
    "load_model",
    "load_task",
    "load_tasks",
    "paired_difference",
    "rank",
]


def load_model(folder: str | Path, *, device: "Device" = "auto", dtype: "Dtype" = "float32") -> "LanguageModel":
    """Load a decoder model once, to evaluate it several times. See `cuvee.evaluate.model.load_model`."""
    from cuvee.evaluate import model

    return model.load_model(folder, device=device, dtype=dtype)


class _Callable(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Report:
        return evaluate(*args, **options)


sys.modules[__name__].__class__ = _Callable
__signature__ = inspect.signature(evaluate)
"""What the room takes when it is called, for help and for editors."""
