"""A `task.yaml`: the data file, the metrics, the weight and the prompt of a task, checked key by key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cuvee.errors import EvaluationError, closest, several
from cuvee.evaluate.metrics import check_metrics, default_metrics
from cuvee.evaluate.prompt_yaml import WrittenExtraction, WrittenPrompt, WrittenShot
from cuvee.evaluate.rows import read_samples
from cuvee.evaluate.task import Task

Place = tuple[int | str, ...]


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
    written = _checked(path)
    samples = read_samples(_data_file(path, written.data))
    metrics = tuple(written.metrics or default_metrics(samples))
    check_metrics(metrics, samples, where=str(path))
    return Task(
        name=written.name,
        samples=samples,
        metrics=metrics,
        weight=written.weight,
        prompt=written.prompt.as_prompt(),
        license=written.license,
    )


def _data_file(path: Path, name: str) -> Path:
    data = path.parent / name
    if data.suffix not in (".csv", ".jsonl"):
        raise EvaluationError(f"data is '{name}', which is neither .csv nor .jsonl", where=str(path))
    if not data.is_file():
        raise EvaluationError(f"the data file {data} does not exist", where=str(path))
    return data


def _checked(path: Path) -> _TaskFile:
    root = _parsed(path)
    lines = dict(_lines(root, ()))
    twice = [EvaluationError(f"key '{key}' twice", where=f"{path}:{line}") for key, line in _repeated(root)]
    if twice:
        raise several(twice)
    try:
        return _TaskFile.model_validate(yaml.SafeLoader("").construct_document(root))
    except ValidationError as error:
        raise several([_problem(path, lines, found) for found in error.errors()]) from error
    except yaml.YAMLError as error:
        raise EvaluationError(f"not YAML: {error}", where=str(path)) from error


def _parsed(path: Path) -> yaml.Node:
    """Parse to nodes, which know their lines. Anchors are refused: a few of them can stand for gigabytes."""
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise EvaluationError("aliases (*name) are not allowed", where=str(path))
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise EvaluationError(f"not YAML: {error}", where=str(path)) from error
    if not isinstance(root, yaml.MappingNode):
        raise EvaluationError("expected keys and values", where=str(path))
    return root


def _lines(node: yaml.Node, path: Place) -> Iterator[tuple[Place, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from ((place, line) for place, line in _lines(value, (*path, key.value)) if place[len(path) + 1 :])
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _repeated(node: yaml.Node) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated(value)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)


def _problem(path: Path, lines: dict[Place, int], found: Any) -> EvaluationError:
    place: Place = found["loc"]
    near = next(place[:end] for end in range(len(place), -1, -1) if place[:end] in lines)
    where = f"{path}:{lines[near]}"
    if found["type"] == "extra_forbidden":
        return _unknown_key(place, where)
    reason = str(found["msg"]).removeprefix("Value error, ")
    return EvaluationError(f"{'.'.join(map(str, place))}: {reason[:1].lower()}{reason[1:]}", where=where)


def _unknown_key(place: Place, where: str) -> EvaluationError:
    section = _section(place)
    guess = closest(str(place[-1]), list(section.model_fields))
    hint = f"did you mean '{guess}'?" if guess else f"known keys: {', '.join(section.model_fields)}"
    return EvaluationError(f"unknown key '{'.'.join(map(str, place))}'", where=where, hint=hint)


def _section(place: Place) -> type[BaseModel]:
    """Return what the keys at a place belong to."""
    if len(place) == 1:
        return _TaskFile
    if place[:-1] == ("prompt",):
        return WrittenPrompt
    return WrittenShot if place[1] == "few_shot" else WrittenExtraction
