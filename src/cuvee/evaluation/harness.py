"""Tasks of lm-eval, run by lm-eval on a model in memory; their results and samples in our own report.

A task is written `lm-eval:NAME`, if lm-eval knows it, or `lm-eval:FILE.yaml`, if it has a file of its own.
How items are asked and judged is lm-eval's. Of a metric that is a mean of shares, the interval is ours; of any other,
such as perplexity or BLEU, and of groups, value and standard error are lm-eval's.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from blake3 import blake3

from cuvee.errors import EvaluationError, MissingExtra
from cuvee.evaluation import statistics
from cuvee.evaluation.batches import BatchSize
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.report import Figure, Item, TaskReport
from cuvee.evaluation.samples import ScoredChoice, rewrite

ROWS_ON_A_CPU = 16
"""lm-eval finds the largest batch by trying batches of 64 rows of full length, which takes minutes without a GPU."""

BOOTSTRAP_SAMPLES = 100_000
"""lm-eval's own number, for standard errors that have no formula."""


@dataclass(frozen=True)
class Harnessed:
    """The results of lm-eval: its tasks, the figures of groups, and notes on figures that it could not give."""

    tasks: tuple[TaskReport, ...]
    groups: tuple[Figure, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Results:
    """Results of a task: the report, its items as lines of samples, and the metrics that are no numbers."""

    report: TaskReport
    lines: list[dict[str, Any]]
    no_numbers: tuple[str, ...]


def run_lm_eval(
    model: LanguageModel,
    names: Sequence[str],
    *,
    limit: int | None = None,
    batch_size: BatchSize = "auto",
    prompt: Prompt | None = None,
    out: Path | None = None,
) -> Harnessed:
    """Run tasks of lm-eval, by `names` or files, on a loaded model.

    With `out`, samples are written, and finished requests kept for a rerun of the same model, types of numbers and
    device. Of a `prompt`, lm-eval takes the chat template and the system text.

    Raises MissingExtra without lm-eval, and EvaluationError for a task that it does not know or cannot load.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise MissingExtra("lm-eval", missing=error.name or "lm_eval") from error
    asked = [_named(name) for name in names]
    prompt = prompt or Prompt()
    cache = None if out is None else _requests_kept(model, out)
    try:
        with redirect_stdout(sys.stderr):
            manager = _task_manager(asked)
            backend = HFLM(
                pretrained=model.network,
                tokenizer=model.tokenizer,
                backend="seq2seq" if model.encoder_decoder else "causal",
                batch_size=_rows(batch_size, model),
                max_length=model.context_length,
            )
            output = lm_eval.simple_evaluate(
                model=backend,
                tasks=[name for name, _ in asked],
                limit=limit,
                log_samples=True,
                bootstrap_iters=BOOTSTRAP_SAMPLES,
                use_cache=cache,
                apply_chat_template=prompt.chat_template,
                system_instruction=prompt.system,
                task_manager=manager,
            )
    except (KeyError, ValueError, OSError) as error:
        raise EvaluationError(f"lm-eval cannot run {', '.join(name for name, _ in asked)}: {error}") from error
    weights = _weights([name for name, _ in asked], output, manager)
    results = [_results(model, name, output, weights[name]) for name in output["samples"]]
    if out is not None:
        for result in results:
            rewrite(out, result.report.task, result.lines, [])
    groups: list[Figure] = []
    for name in output.get("groups", {}):
        groups += _group_figures(name, output)
    tasks = tuple(result.report for result in results)
    return Harnessed(tasks, tuple(groups), tuple(_notes(results)))


def _requests_kept(model: LanguageModel, out: Path) -> str:
    """Return the start of the name of lm-eval's file of answers: all that they depend on besides the requests."""
    settings = (model.digest[:16], model.files_digest[:16], model.dtype, model.device.type)
    folder = out / "lm-eval"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / "-".join(settings))


def _notes(results: Sequence[_Results]) -> Iterator[str]:
    for result in results:
        if result.no_numbers:
            yield f"{result.report.task}: lm-eval gives no number for {', '.join(result.no_numbers)}"


def _task_manager(asked: Sequence[tuple[str, Path | None]]) -> Any:
    """Return lm-eval's index of the tasks asked for; without its own 14,000, which take long, where files will do."""
    from lm_eval.tasks import TaskManager

    folders = {folder for _, folder in asked}
    paths = sorted(str(folder) for folder in folders if folder is not None)
    if None not in folders:
        local = TaskManager(include_path=paths, include_defaults=False)
        if all(_is_complete(name, local) for name, _ in asked):
            return local
    return TaskManager(include_path=paths or None)


def _is_complete(name: str, manager: Any) -> bool:
    """Say whether an index has a task, or a group with all its members."""
    entry = manager.task_index.get(name)
    if entry is None:
        return False
    members = (entry.cfg or {}).get("task")
    if not isinstance(members, list):
        return True
    return all(isinstance(member, str) and _is_complete(member, manager) for member in members)


def is_a_task_of_lm_eval(name: str) -> bool:
    """Say whether lm-eval is installed and has a task, group or tag of this name."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        return False
    return name in TaskManager().task_index


def _rows(batch_size: BatchSize, model: LanguageModel) -> BatchSize:
    if batch_size == "auto" and model.device.type == "cpu":
        return ROWS_ON_A_CPU
    return batch_size


def _named(where: str) -> tuple[str, Path | None]:
    """Return the name of a task or group, and the folder of the file that defines it."""
    path = Path(where)
    if path.suffix not in (".yaml", ".yml"):
        return where, None
    if not path.is_file():
        raise EvaluationError("no such task file", where=where)
    content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    key = "group" if isinstance(content, Mapping) and "group" in content else "task"
    if not isinstance(content, Mapping) or not isinstance(content.get(key), str):
        raise EvaluationError("expected a task or group of lm-eval, with a key `task` or `group`", where=where)
    return str(content[key]), path.parent


class _Loader(yaml.SafeLoader):
    """Reads past lm-eval's own tags, such as !function."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def _weights(names: Sequence[str], found: Mapping[str, Any], manager: Any) -> dict[str, float]:
    """Return each task's share of the macro average, in which every requested task or group counts the same.

    A group that averages its tasks, by their size or evenly, shares its weight among them in the same way.
    """
    weights: dict[str, float] = dict.fromkeys(found["samples"], 0.0)
    for name in names:
        tasks = _tasks_of(name, found)
        if name not in found.get("groups", {}):
            shares = [1.0] * len(tasks)
        elif _weighs_by_size(name, manager):
            sizes = [found["n-samples"][task]["effective"] for task in tasks]
            shares = [size / sum(sizes) for size in sizes]
        else:
            shares = [1 / len(tasks)] * len(tasks)
        for task, share in zip(tasks, shares, strict=True):
            weights[task] += share
    return {name: weight or 1.0 for name, weight in weights.items()}


def _tasks_of(name: str, found: Mapping[str, Any]) -> list[str]:
    """Return the tasks of a group and of the groups in it, or a task by itself."""
    if name in found["samples"]:
        return [name]
    members = found["group_subtasks"].get(name, ())
    return list(dict.fromkeys(chain.from_iterable(_tasks_of(member, found) for member in members)))


def _weighs_by_size(name: str, manager: Any) -> bool:
    entry = manager.task_index.get(name)
    written = (entry.cfg or {}).get("aggregate_metric_list") if entry is not None else None
    if isinstance(written, list) and written:
        written = written[0]
    return bool(written.get("weight_by_size", True)) if isinstance(written, Mapping) else True


def _is_value(key: str) -> bool:
    """Say whether a key of results is `metric,filter`, not an error or a fact about the task."""
    return "," in key and "_stderr," not in key


def _group_figures(name: str, found: Mapping[str, Any]) -> list[Figure]:
    results = found["groups"][name]
    keys = [key for key in results if _is_value(key)]
    several = len({key.partition(",")[2] for key in keys}) > 1
    sizes = results.get("sample_count", {})
    figures = []
    for key in keys:
        size = sizes.get(key, results["sample_len"])
        figures.append(_figure(name, key, size, results, several_filters=several))
    return figures


def _results(model: LanguageModel, name: str, found: Mapping[str, Any], weight: float) -> _Results:
    items = _items(found["samples"][name])
    results = found["results"][name]
    metrics = _values_by_metric(items)
    several = len({key.partition(",")[2] for key in metrics}) > 1
    shares: dict[str, list[float]] = {}
    figures: list[Figure] = []
    no_numbers: list[str] = []
    for key, values in metrics.items():
        label = _label(key, several_filters=several)
        if not _is_number(results.get(key)):
            no_numbers.append(label)
        elif _is_mean_of_shares(results[key], values):
            shares[label] = [float(value) for value in values]
        else:
            count = sum(value is not None for value in values)
            figures.append(_figure(name, key, count, results, several_filters=several))
    digest = _task_digest(name, found)
    lines = []
    for place, by_filter in enumerate(items):
        scores = {label: values[place] for label, values in shares.items()}
        first = next(iter(by_filter.values()))
        lines.append(_line(first, scores, f"{model.digest[:16]} {digest[:16]}"))
    main = next(iter(shares), "")
    report = TaskReport(
        task=name,
        digest=digest,
        weight=weight,
        scores=tuple(statistics.as_score(name, label, statistics.mean(values)) for label, values in shares.items()),
        items=tuple(Item(line["id"], line["prediction"], line["metrics"].get(main)) for line in lines),
        truncated=0,
        tokens=0,
        prompt={"lm-eval": version("lm_eval"), "num_fewshot": found["n-shot"].get(name, 0)},
        figures=tuple(figures),
    )
    return _Results(report, lines, tuple(no_numbers))


def _task_digest(name: str, found: Mapping[str, Any]) -> str:
    config = json.dumps(found["configs"][name], sort_keys=True, default=repr)
    return blake3(f"lm-eval {version('lm_eval')} {config}".encode()).hexdigest()


def _items(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Gather the samples of each item by their filter; lm-eval lists all items once for each filter."""
    by_item: dict[int, dict[str, Mapping[str, Any]]] = {}
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        by_item.setdefault(sample["doc_id"], {})[sample["filter"]] = sample
    return list(by_item.values())


def _values_by_metric(items: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, list[Any]]:
    """Return the values of all items by `METRIC,FILTER`; None where an item has none."""
    keys: dict[tuple[str, str], None] = {}
    for by_filter in items:
        for filter_name, sample in by_filter.items():
            keys |= dict.fromkeys((metric, filter_name) for metric in sample["metrics"])
    values = {}
    for metric, filter_name in keys:
        values[f"{metric},{filter_name}"] = [by_filter[filter_name].get(metric) for by_filter in items]
    return values


def _label(key: str, *, several_filters: bool) -> str:
    """Return a metric's name, with the filter where there are several."""
    return key if several_filters else key.partition(",")[0]


def _figure(name: str, key: str, n: int, results: Mapping[str, Any], *, several_filters: bool) -> Figure:
    metric, _, chosen = key.partition(",")
    error = results.get(f"{metric}_stderr,{chosen}")
    standard_error = None
    if isinstance(error, int | float) and math.isfinite(error):
        standard_error = float(error)
    return Figure(name, _label(key, several_filters=several_filters), n, float(results[key]), standard_error)


def _in_order(arguments: Any) -> list[Any]:
    """List arguments, which lm-eval has in a list or by name."""
    return list(arguments.values()) if isinstance(arguments, Mapping) else list(arguments)


def _is_mean_of_shares(value: float, values: Sequence[Any]) -> bool:
    if not all(_is_number(value) and 0 <= value <= 1 for value in values):
        return False
    return math.isclose(sum(values) / len(values), value, abs_tol=1e-9)


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) and math.isfinite(value)


def _line(sample: Mapping[str, Any], metrics: Mapping[str, float], key: str) -> dict[str, Any]:
    """Return a line of samples for an item of lm-eval, which numbers its items from 0."""
    texts = [_in_order(pair) for pair in _in_order(sample["arguments"])]
    if _are_choices(texts):
        eval_type, answer = "multiple_choice", _chosen(sample, texts)
    else:
        eval_type, answer = "generation", _written(sample)
    return {
        "id": str(sample["doc_id"]),
        "eval_type": eval_type,
        "input": texts[0][0],
        "prompt": texts[0][0],
        **answer,
        "target": sample["target"],
        "metrics": dict(metrics),
        "tokens": 0,
        "cut": 0,
        "batch": "",
        "key": key,
    }


def _are_choices(texts: Sequence[Sequence[Any]]) -> bool:
    """Say whether the arguments of an item are contexts with choices: each choice is a text."""
    return len(texts) > 1 and all(isinstance(text[1], str) for text in texts)


def _chosen(sample: Mapping[str, Any], texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    if "acc_mutual_info" in sample["metrics"]:
        texts = texts[: len(texts) // 2]  # the rest are the choices without their question
    sums = [float(response[0][0]) for response in sample["resps"][: len(texts)]]
    choices = [ScoredChoice(text[1], value, 0).to_json() for text, value in zip(texts, sums, strict=True)]
    return {"choices": choices, "scores": sums, "prediction": sums.index(max(sums))}


def _written(sample: Mapping[str, Any]) -> dict[str, Any]:
    text, answer = str(sample["resps"][0][0]), str(sample["filtered_resps"][0])
    return {"text": text, "extracted": answer, "prediction": answer}
