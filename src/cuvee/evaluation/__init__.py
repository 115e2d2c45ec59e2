"""Measures models on tasks: multiple choice by log-likelihood, generation, metrics, statistics.

Importing this room imports neither torch nor transformers; `evaluate` and `load_model` do when they are called.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from cuvee.evaluation.extract import Extraction
from cuvee.evaluation.load import load_task
from cuvee.evaluation.prompt import Prompt, Shot
from cuvee.evaluation.ranking import Ranking, Standing, rank
from cuvee.evaluation.report import Item, Report, Score, TaskReport
from cuvee.evaluation.run import evaluate
from cuvee.evaluation.statistics import Difference, Estimate, Gap, paired_difference
from cuvee.evaluation.suite import load_tasks
from cuvee.evaluation.task import Sample, Task

if TYPE_CHECKING:
    from cuvee.evaluation.model import Device, Dtype, LanguageModel

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
    """Load a decoder model once, to evaluate it several times. See `cuvee.evaluation.model.load_model`."""
    from cuvee.evaluation import model

    return model.load_model(folder, device=device, dtype=dtype)
