"""What a set costs, from headers alone: disk, memory of the machine and of a card, seconds, money.

Seconds are counted from rates.py: bytes over bytes a second, operations over operations a second. A model that writes
reads all its weights, and all it has seen, for each token; every answer is counted as long as its task allows, so that
the time of tasks in which models write is the most that it can be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rates import Rates
from sets import Family, Work, pinned_name

from cuvee.api import load_stages, recipe_from_text
from cuvee.checkpoint import TensorSource
from cuvee.cores import usable_cores
from cuvee.errors import RecipeError
from cuvee.evaluation.suite import load_tasks
from cuvee.evaluation.task import Task
from cuvee.hub import Hub
from cuvee.plan import Plan
from cuvee.plan.matrices import on_device
from cuvee.plan.memory import default_memory, fit, least_memory
from cuvee.plan.resolve import Opening, open_models
from cuvee.plan.seconds import Rates as CoreRates
from cuvee.plan.seconds import forecast_seconds
from cuvee.plan.stages import plan_stages
from cuvee.structure.config import HEADS, HIDDEN, KEY_HEADS, VOCABULARY, number, text_config

CARDS = (48, 80)
USABLE = 0.95
"""Of a card's memory; the rest is the driver's."""

BYTES = 2
"""Of a number: models answer in bfloat16."""

CHARACTERS_PER_TOKEN = 3


@dataclass(frozen=True)
class Merge:
    """A recipe's cost. `card_bytes` is for a method of whole matrices on a card; 0 for others, which need none."""

    name: str
    bytes_read: int
    bytes_written: int
    memory_bytes: int
    card_bytes: int
    seconds: float


@dataclass(frozen=True)
class Shape:
    """A model's sizes. `kept_bytes` are those of keys and values for a token."""

    parameters: int
    layers: int
    vocabulary: int
    inner: int
    kept_bytes: int

    @property
    def weight_bytes(self) -> int:
        return self.parameters * BYTES


@dataclass(frozen=True)
class Measuring:
    """The cost of measuring any model of the set on all tasks; `row_bytes` is the memory that a row takes."""

    seconds: Mapping[str, float]
    row_bytes: int


@dataclass(frozen=True)
class Forecast:
    """The cost of a set. `rows` is how many rows a card of so many gigabytes has room for, by its gigabytes.

    `warnings` are those of the recipes' plans, each once.
    """

    merges: tuple[Merge, ...]
    shape: Shape
    measuring: Measuring
    models: int
    download_bytes: int
    disk_bytes: int
    memory_bytes: int
    card_bytes: int
    rows: Mapping[int, int]
    merge_seconds: float
    download_seconds: float
    measure_seconds: float
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.download_seconds + self.merge_seconds + self.measure_seconds

    def fits(self, gigabytes: int) -> bool:
        return self.card_bytes <= usable_bytes(gigabytes)


def usable_bytes(gigabytes: int) -> float:
    return USABLE * gigabytes * 1e9


def forecast(
    family: Family,
    commits: Mapping[str, str],
    recipes: Sequence[Path],
    work: Mapping[str, "Counted"],
    rows: int,
    rates: Rates,
    hub: Hub,
) -> Forecast:
    """Plan every recipe, and count. Raises the errors of the plans, before anything is downloaded."""
    plans = {file.stem: plan_stages(load_stages(file), hub=hub) for file in recipes}
    merges = tuple(_merge(name, stages, rates) for name, stages in plans.items())
    opening = _opened(family, commits, hub)
    shape = max((_shape(source) for source in opening.sources), key=lambda own: own.parameters)
    measuring = _measuring(shape, work, rows, rates)
    models = len(family.measured) + len(recipes)
    downloads = opening.bytes_downloaded
    load_seconds = shape.weight_bytes / rates.disk_read
    written = sum(merge.bytes_written for merge in merges)
    return Forecast(
        merges=merges,
        shape=shape,
        measuring=measuring,
        models=models,
        download_bytes=downloads,
        disk_bytes=downloads + written,
        memory_bytes=max(shape.weight_bytes, *(merge.memory_bytes for merge in merges)),
        card_bytes=max(shape.weight_bytes + rows * measuring.row_bytes, *(each.card_bytes for each in merges)),
        rows={card: _rows(shape, measuring, card) for card in CARDS},
        merge_seconds=sum(merge.seconds for merge in merges),
        download_seconds=downloads / rates.download,
        measure_seconds=models * (load_seconds + sum(measuring.seconds.values())),
        warnings=_warnings(plans),
    )


def _warnings(plans: Mapping[str, Sequence[Plan]]) -> tuple[str, ...]:
    """Return the warnings of plans, each behind the recipes that it is of."""
    recipes: dict[str, list[str]] = {}
    for name, stages in plans.items():
        for warning in dict.fromkeys(warning for plan in stages for warning in plan.warnings):
            recipes.setdefault(warning, []).append(name)
    return tuple(f"{', '.join(names)}: {warning}" for warning, names in recipes.items())


def _merge(name: str, stages: Sequence[Plan], rates: Rates) -> Merge:
    threads = usable_cores()
    read = sum(plan.forecast.bytes_read for plan in stages)
    written = sum(plan.forecast.bytes_written for plan in stages)
    memory, card, seconds = 0, 0, read / rates.disk_read + written / rates.disk_write
    for plan in stages:
        budget = default_memory(plan.steps, threads)
        _, workers = fit(plan.steps, budget, threads)
        memory = max(memory, budget)
        cores = forecast_seconds(plan, CoreRates(rates.merge_operations, rates.merge_decomposition))
        if cores is not None:
            seconds = max(seconds, cores.on(workers))
            card = max(card, least_memory(on_device(plan, "cuda").steps))
    return Merge(name, read, written, memory, card, seconds)


def _opened(family: Family, commits: Mapping[str, str], hub: Hub) -> Opening:
    """Open the headers of all models."""
    models = [{"model": pinned_name(name, commits)} for name in (family.base, *family.models)]
    recipe = {"merge_method": "linear", "models": models, "parameters": {"weight": 1.0}}
    return open_models(recipe_from_text(yaml.safe_dump(recipe)), hub)


def _shape(source: TensorSource) -> Shape:
    config = text_config(source.config)
    layers = int(config["num_hidden_layers"])
    heads, hidden = _size(config, HEADS), _size(config, HIDDEN)
    head = config.get("head_dim") or hidden // heads
    keys = number(config, KEY_HEADS) or heads
    parameters = sum(tensor.nbytes // BYTES for tensor in source.tensors.values())
    vocabulary = _size(config, VOCABULARY)
    inner = int(config["intermediate_size"])
    return Shape(parameters, layers, vocabulary, inner, 2 * layers * keys * int(head) * BYTES)


def _size(config: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    found = number(config, keys)
    if found is None:
        raise RecipeError(f"a config.json has none of {', '.join(keys)}")
    return found


@dataclass(frozen=True)
class Counted:
    """The items of a task, and each one's work at most."""

    items: int
    each: Work


def counted(family: Family, tasks: Sequence[str], limit: int) -> dict[str, Counted]:
    """Count the work of tasks: of the set as it says, of files by their items."""
    work: dict[str, Counted] = {}
    for task in tasks:
        if task in family.tasks:
            work[task] = Counted(limit, family.tasks[task])
            continue
        if task.startswith("lm-eval:"):
            raise RecipeError(f"a plan does not know how long the items of '{task}' are", hint="leave out --plan")
        for own in load_tasks(task):
            work[own.name] = _of_file(own, limit)
    return work


def _of_file(task: Task, limit: int) -> Counted:
    samples = task.samples[:limit]
    longest = max(len(sample.input) for sample in samples) // CHARACTERS_PER_TOKEN + 1
    writes = any(sample.eval_type == "generation" for sample in samples)
    return Counted(len(samples), Work(longest, task.prompt.max_new_tokens if writes else 0))


def _measuring(shape: Shape, work: Mapping[str, Counted], rows: int, rates: Rates) -> Measuring:
    seconds = {task: _seconds(shape, counts, rows, rates) for task, counts in work.items()}
    row_bytes = max(_row_bytes(shape, counts.each) for counts in work.values())
    return Measuring(seconds, row_bytes)


def _seconds(shape: Shape, counts: Counted, rows: int, rates: Rates) -> float:
    each = counts.each
    batches = -(-counts.items // rows)
    read = 2 * shape.parameters * counts.items * each.prompt_tokens / rates.device_operations
    seen = each.prompt_tokens + each.answer_tokens / 2
    moved = shape.weight_bytes + rows * seen * shape.kept_bytes
    step = max(moved / rates.device_bytes, shape.layers * rates.layer_seconds)
    return read + batches * each.answer_tokens * step


def _row_bytes(shape: Shape, each: Work) -> int:
    """Return the bytes of a row: keys and values of all it sees, and, while its prompt is read, numbers of a layer.

    Where choices are scored, the logits of every token stand beside their log-probabilities, in 4 bytes each.
    """
    kept = (each.prompt_tokens + each.answer_tokens) * shape.kept_bytes
    layer = each.prompt_tokens * 4 * shape.inner * BYTES
    logits = shape.vocabulary * (1 if each.answer_tokens else each.prompt_tokens) * 2 * 4
    return int(kept + max(layer, logits))


def _rows(shape: Shape, measuring: Measuring, gigabytes: int) -> int:
    return max(0, int((usable_bytes(gigabytes) - shape.weight_bytes) // measuring.row_bytes))
