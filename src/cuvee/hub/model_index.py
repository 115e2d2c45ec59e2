"""The `model-index` of a model card: scores in the form in which a hub reads them.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TASK_TYPE = "text-generation"


@dataclass(frozen=True)
class Result:
    """A score of a model: its task, the settings of that, the metric, and how sure the value is."""

    task: str
    task_settings: Mapping[str, Any]
    metric: str
    value: float
    sureness: Mapping[str, Any]


def model_index(model: str, results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return the scores of a model as plain data for the head of its card."""
    from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

    listed = [
        EvalResult(
            task_type=TASK_TYPE,
            dataset_type=result.task,
            dataset_name=result.task,
            dataset_args=dict(result.task_settings) or None,
            metric_type=result.metric,
            metric_value=result.value,
            metric_args=dict(result.sureness) or None,
        )
        for result in results
    ]
    index: list[dict[str, Any]] = eval_results_to_model_index(model, listed)
    return index
