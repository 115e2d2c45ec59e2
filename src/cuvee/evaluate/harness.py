"""Tasks of lm-eval, run by lm-eval on a model in memory; their results and samples in our own report.

A task is asked for as `lm-eval:NAME`, for one that lm-eval knows, or `lm-eval:FILE.yaml`, for one in a file of its own.
How items are asked and judged is lm-eval's; standard errors and intervals are ours, from its scores of the items.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from blake3 import blake3

from cuvee.errors import EvaluationError, MissingExtra
from cuvee.evaluate import statistics
from cuvee.evaluate.batches import BatchSize
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.report import Item, TaskReport
from cuvee.evaluate.samples import ScoredChoice, rewrite

PREFIX = "lm-eval:"


@dataclass(frozen=True)
class Harnessed:
    """Results of one task of lm-eval, and its items as lines of samples."""

    report: TaskReport
    lines: list[dict[str, Any]]


def run_lm_eval(
    model: LanguageModel,
    names: Sequence[str],
    *,
    limit: int | None = None,
    batch_size: BatchSize = "auto",
    out: Path | None = None,
) -> list[TaskReport]:
    """Run tasks of lm-eval on a loaded model. With `out`, samples are written, and finished requests kept for a rerun.

    Raises MissingExtra without lm-eval, and EvaluationError for a task that it does not know or cannot load.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingExtra("lm-eval", missing=error.name or "lm_eval") from error
    asked = [_named(name.removeprefix(PREFIX)) for name in names]
    folders = sorted({str(folder) for _, folder in asked if folder is not None})
    backend = HFLM(
        pretrained=model.network,
        tokenizer=model.tokenizer,
        backend="seq2seq" if model.encoder_decoder else "causal",
        batch_size=batch_size,
        max_length=model.context_length,
    )
    cache = None if out is None else out / "lm-eval" / model.digest[:16]
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = lm_eval.simple_evaluate(
            model=backend,
            tasks=[name for name, _ in asked],
            limit=limit,
            log_samples=True,
            bootstrap_iters=0,
            use_cache=None if cache is None else str(cache),
            task_manager=TaskManager(include_path=folders or None),
        )
    except (KeyError, ValueError, OSError) as error:
        raise EvaluationError(f"lm-eval cannot run {', '.join(name for name, _ in asked)}: {error}") from error
    results = [_harnessed(model, name, found) for name in found["samples"]]
    for result in results if out is not None else ():
        rewrite(Path(str(out)), result.report.task, result.lines, [])
    return [result.report for result in results]


def _named(where: str) -> tuple[str, Path | None]:
    """Return the name of a task, and the folder of the file that defines it."""
    path = Path(where)
    if path.suffix not in (".yaml", ".yml"):
        return where, None
    if not path.is_file():
        raise EvaluationError("no such task file", where=where)
    return str(_Loader(path.read_text(encoding="utf-8")).get_single_data()["task"]), path.parent


class _Loader(yaml.SafeLoader):
    """Reads past lm-eval's own tags, such as !function."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def _harnessed(model: LanguageModel, name: str, found: Mapping[str, Any]) -> Harnessed:
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    config = json.dumps(found["configs"][name], sort_keys=True, default=repr)
    digest = blake3(f"lm-eval {version('lm_eval')} {config}".encode()).hexdigest()
    metrics = [each for each in samples[0]["metrics"] if all(_is_share(sample[each]) for sample in samples)]
    lines = [_line(sample, metrics, f"{model.digest[:16]} {digest[:16]}") for sample in samples]
    items = tuple(Item(line["id"], line["prediction"], line["metrics"].get((metrics or [""])[0])) for line in lines)
    scores = [
        statistics.as_score(name, metric, statistics.mean([line["metrics"][metric] for line in lines]))
        for metric in metrics
    ]
    report = TaskReport(
        task=name,
        digest=digest,
        weight=1.0,
        scores=tuple(scores),
        items=items,
        truncated=0,
        tokens=0,
        prompt={"lm-eval": version("lm_eval"), "num_fewshot": found["n-shot"].get(name, 0)},
    )
    return Harnessed(report, lines)


def _is_share(value: Any) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value <= 1


def _line(sample: Mapping[str, Any], metrics: Sequence[str], key: str) -> dict[str, Any]:
    """Return a line of samples for one item of lm-eval, which numbers its items from 0."""
    arguments = sample["arguments"]
    pairs = list(arguments.values()) if isinstance(arguments, Mapping) else list(arguments)
    texts = [list(pair.values()) if isinstance(pair, Mapping) else list(pair) for pair in pairs]
    chosen = len(texts) > 1 and all(isinstance(text[1], str) for text in texts)
    common = {
        "id": str(sample["doc_id"]),
        "eval_type": "multiple_choice" if chosen else "generation",
        "input": texts[0][0],
        "prompt": texts[0][0],
    }
    answer = _chosen(sample, texts) if chosen else _written(sample)
    return {
        **common,
        **answer,
        "target": sample["target"],
        "metrics": {name: float(sample[name]) for name in metrics},
        "tokens": 0,
        "cut": 0,
        "batch": "",
        "key": key,
    }


def _chosen(sample: Mapping[str, Any], texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    sums = [float(response[0][0]) for response in sample["resps"]][: len(texts)]
    choices = [ScoredChoice(text[1], value, 0).to_json() for text, value in zip(texts, sums, strict=True)]
    return {"choices": choices, "scores": sums, "prediction": sums.index(max(sums))}


def _written(sample: Mapping[str, Any]) -> dict[str, Any]:
    text, answer = str(sample["resps"][0][0]), str(sample["filtered_resps"][0])
    return {"text": text, "extracted": answer, "prediction": answer}
