"""A search space: the file that says which recipes may be tried, and on which items they are judged.

A space looks like a recipe in which ranges stand where numbers do. Each merge method of it is an arm with dimensions of
its own; `Arm.recipe` turns a value of each dimension into an ordinary recipe, which `cuvee merge` merges to the same
bytes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cuvee.catalogue import registry
from cuvee.documents.checked import checked
from cuvee.documents.document import read_document, read_text
from cuvee.errors import RecipeError, closest
from cuvee.method import Method

Values = Mapping[str, float | str | bool]
"""One value of each dimension of an arm, by the dimension's name."""

Dtype = Literal["float32", "bfloat16", "float16"]

Part = Annotated[float, Field(gt=0, lt=1)]

DEFAULT_METHODS = ("task_arithmetic", "tsv_m")
WEIGHTS = (0.0, 1.2)
SCALES = (0.2, 2.0)
POINTS = 3
DIGITS = 4
"""A recipe says its numbers with that many significant digits, so that a person can read it."""

DENSITIES = (0.2, 0.5, 0.8, 1.0)

MOST_OBJECTIVES = 3
"""With more of them hardly any candidate is clearly better than another."""


@dataclass(frozen=True)
class Dimension:
    """A dimension: a number from `low` to `high`, on a logarithmic scale if `log`; or a choice of `choices`."""

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[float | str | bool, ...] = ()

    def rounded(self, value: float | str | bool) -> float | str | bool:
        """Return the value as a recipe says it, within the range."""
        if self.choices or isinstance(value, str | bool):
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def line(self, points: int) -> tuple[float | str | bool, ...]:
        """Return that many values from one end to the other, or all choices."""
        if self.choices:
            return self.choices
        shares = [place / (points - 1) for place in range(points)]
        if self.log:
            ratio = self.high / self.low
            return tuple(self.rounded(self.low * ratio**share) for share in shares)
        return tuple(self.rounded(self.low + (self.high - self.low) * share) for share in shares)


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class WrittenModel(_Written):
    """A model, with the text that merges may be aligned with it by."""

    model: str
    text: str | None = None


class WrittenWeights(_Written):
    """Which weights vary: of each model or of all together, over the depth by control points, for some roles apart."""

    per: Literal["model", "all"] = "model"
    over: Literal["depth", "whole"] = "depth"
    points: Annotated[int, Field(ge=2, le=9)] = POINTS
    roles: list[str] = []
    range: list[float] = list(WEIGHTS)

    @field_validator("range")
    @classmethod
    def _rises(cls, bounds: list[float]) -> list[float]:
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise ValueError("a range is two numbers, the lower one first")
        return bounds


class WrittenInclude(_Written):
    """Models may be left out, but at least that many stay."""

    at_least: Annotated[int, Field(ge=1)] = 2


class WrittenSearch(_Written):
    """The varied settings. Settings that are not named are as `Arm`s have them by default."""

    method: list[str] = list(DEFAULT_METHODS)
    weights: WrittenWeights | None = None
    parameters: dict[str, Any] = {}
    include: WrittenInclude | None = None
    align: dict[str, Any] | None = None

    @field_validator("method", mode="before")
    @classmethod
    def _listed(cls, method: object) -> object:
        return [method] if isinstance(method, str) else method


class WrittenItems(_Written):
    """How items are shared out: to search by, to choose by, to report on. `private` is the task NAME-private."""

    search: Part | None = None
    select: Part | None = None
    report: Part | Literal["private"] | None = None
    block: Annotated[int, Field(ge=5)] = 25


class WrittenSelect(_Written):
    """How many of the best are measured on the items to choose by."""

    top: Annotated[int, Field(ge=1)] = 8


class WrittenSpace(_Written):
    """The file as it is written."""

    base_model: str
    models: Annotated[list[WrittenModel], Field(min_length=1)]
    tasks: Annotated[list[str], Field(min_length=1)]
    budget: str | int = 200
    search: WrittenSearch = WrittenSearch()
    items: WrittenItems = WrittenItems()
    select: WrittenSelect = WrittenSelect()
    objectives: dict[str, list[str] | dict[str, float]] = {}
    sampler: Literal["auto", "tpe", "cma", "gp", "random", "grid"] = "auto"
    anchors: list[str | dict[str, str]] = ["parents", "average", "defaults", "lambda"]
    racing: bool = True
    allow_public_benchmark: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    dtype: Dtype | None = None
    evaluation_dtype: Dtype = "float32"

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, models: object) -> object:
        if not isinstance(models, list):
            return models
        return list(map(_as_mapping, models))

    @field_validator("objectives")
    @classmethod
    def _several(cls, objectives: dict[str, Any]) -> dict[str, Any]:
        if len(objectives) == 1 or len(objectives) > MOST_OBJECTIVES:
            raise ValueError(f"expected none, or two to {MOST_OBJECTIVES} by name, found {len(objectives)}")
        for name, tasks in objectives.items():
            weights = tasks.values() if isinstance(tasks, dict) else ()
            if not tasks or min(weights, default=1) <= 0:
                raise ValueError(f"'{name}' needs tasks, with weights above 0 if any")
        return objectives


@dataclass(frozen=True)
class Arm:
    """A merge method with the settings that vary in it."""

    method: str
    space: WrittenSpace
    dimensions: tuple[Dimension, ...]

    @property
    def _weights(self) -> WrittenWeights:
        return self.space.search.weights or WrittenWeights()

    @cached_property
    def default(self) -> Values:
        """The values that the method has when nobody searches: its own defaults, weights of one."""
        defaults: dict[str, float | str | bool] = {}
        for dimension in self.dimensions:
            defaults[dimension.name] = _default_of(dimension, registry()[self.method])
        return defaults

    def recipe(self, values: Values) -> str:
        """Return the recipe of some values, as YAML, its numbers rounded to `DIGITS`."""
        values = self._rounded(values)
        names = model_names(self.space)
        included = [name for name in names if values.get(f"include.{name}", True)]
        needed = self.space.search.include.at_least if self.space.search.include else 1
        for name in names:
            if len(included) >= needed:
                break
            if name not in included:
                included.append(name)
        document: dict[str, Any] = {"merge_method": self.method}
        if registry()[self.method].base != "member":
            document["base_model"] = self.space.base_model
        document["models"] = []
        for name, model in zip(names, self.space.models, strict=True):
            if name in included:
                document["models"].append(self._model(name, model, values))
        parameters = self._parameters(values)
        if parameters:
            document["parameters"] = parameters
        if self.space.search.align is not None:
            document["align"] = self._alignment(values)
        return _written(document, self.space)

    def _rounded(self, values: Values) -> Values:
        by_name = {dimension.name: dimension for dimension in self.dimensions}
        return {name: by_name[name].rounded(value) for name, value in values.items()}

    def _model(self, name: str, model: WrittenModel, values: Values) -> dict[str, Any]:
        entry: dict[str, Any] = {"model": model.model}
        if model.text is not None and self.space.search.align is not None:
            entry["text"] = model.text
        weight = _weight(self._weights, name, values)
        if weight is not None:
            entry["parameters"] = {"weight": weight}
        return entry

    def _parameters(self, values: Values) -> dict[str, Any]:
        settings = registry()[self.method].settings
        parameters: dict[str, Any] = {}
        varies_weights = any(name.startswith("weight.") for name in values)
        is_shared = self._weights.per == "all" or not varies_weights
        if "weight" in settings and is_shared:
            shared = _weight(self._weights, "", values)
            parameters["weight"] = 1.0 if shared is None else shared
        for name in settings:
            value = self._parameter(name, values)
            if value is not None:
                parameters[name] = value
        return parameters

    def _parameter(self, name: str, values: Values) -> Any:
        """Return a setting as drawn, or as the space fixes it; None where neither says it."""
        if name != "weight":
            if name in values:
                return values[name]
            if f"{name}.0" in values:
                return _points(name, values)
        fixed = self.space.search.parameters.get(name)
        return None if _is_range(fixed) else fixed

    def _alignment(self, values: Values) -> dict[str, Any]:
        alignment = dict(self.space.search.align or {})
        for name in alignment:
            if f"align.{name}" in values:
                alignment[name] = values[f"align.{name}"]
        return alignment


def read_space(file: Path) -> WrittenSpace:
    """Read a space. Raises RecipeError with every problem and its key."""
    if not file.exists():
        raise RecipeError("there is no space to read", where=str(file), hint="`cuvee search new` writes one")
    return parse_space(read_text(file, "space"), folder=file.parent, where=str(file))


def parse_space(text: str, *, folder: Path | None, where: str) -> WrittenSpace:
    """Read a space from a string; models and files of it are looked up in `folder`, or stay as they are written."""
    space = checked(WrittenSpace, read_document(text, where))
    return _checked(space if folder is None else _located(space, folder), where)


def family_space(
    base: str, experts: Sequence[str], tasks: Sequence[str], texts: Sequence[str], dtype: str = "float32"
) -> WrittenSpace:
    """Return the space of a family, in which nothing but the method and its scale is asked for.

    `texts` are none or as many as experts, in their order; `dtype` is what the blends compute in when they answer.
    Raises RecipeError.
    """
    if dtype not in get_args(Dtype):
        raise RecipeError(f"--dtype: expected {', '.join(get_args(Dtype))}, found '{dtype}'")
    if len(experts) < 2:
        raise RecipeError(f"--experts: a blend needs two experts at least, found {len(experts)}")
    twice = [expert for expert, times in Counter(experts).items() if times > 1]
    if twice:
        raise RecipeError(f"--experts: '{twice[0]}' is named twice", hint="name each expert once")
    if texts and len(texts) != len(experts):
        raise RecipeError(f"--texts: expected none or one for each of {len(experts)} experts, found {len(texts)}")
    models = []
    for place, expert in enumerate(experts):
        models.append(WrittenModel(model=expert, text=texts[place] if texts else None))
    space = WrittenSpace(base_model=base, models=models, tasks=list(tasks), evaluation_dtype=cast(Dtype, dtype))
    return _located(space, Path())


def arms_of(space: WrittenSpace) -> tuple[Arm, ...]:
    """Return an arm for each method of a space."""
    return tuple(Arm(method, space, tuple(_dimensions(method, space))) for method in space.search.method)


def model_names(space: WrittenSpace) -> tuple[str, ...]:
    """Name the models by the end of their reference; by their place, too, where two end alike."""
    ends = [model.model.rstrip("/").split("/")[-1].split("@")[0] for model in space.models]
    names = []
    for number, end in enumerate(ends, 1):
        is_alone = ends.count(end) == 1
        names.append(end if is_alone else f"{end} {number}")
    return tuple(names)


def parents_of(space: WrittenSpace) -> Iterator[tuple[str, str]]:
    """Give a name and the recipe of the base and of each model. The base is `base`, unless a model is called so."""
    names = model_names(space)
    base = "base model" if "base" in names else "base"
    yield f"parent {base}", parent_recipe(space, space.base_model)
    for name, model in zip(names, space.models, strict=True):
        yield f"parent {name}", parent_recipe(space, model.model)


def parent_recipe(space: WrittenSpace, reference: str) -> str:
    """Return the recipe that gives a model back."""
    document: dict[str, Any] = {"merge_method": "passthrough", "models": [{"model": reference}]}
    return _written(document, space)


def plain_recipe(
    space: WrittenSpace,
    method: str,
    settings: Mapping[str, float],
    *,
    post: str = "",
    align: Mapping[str, Any] | None = None,
) -> str:
    """Return the recipe of a method that treats all models alike, with weights of one, a modifier or a repair."""
    known = registry()[method]
    document: dict[str, Any] = {"merge_method": method}
    if known.base != "member":
        document["base_model"] = space.base_model
    document["models"] = []
    for model in space.models:
        entry = {"model": model.model}
        if align is not None and model.text is not None:
            entry["text"] = model.text
        document["models"].append(entry)
    weight = {"weight": 1.0} if "weight" in known.settings else {}
    if weight or settings:
        document["parameters"] = {**weight, **settings}
    if post:
        document["post"] = [post]
    if align is not None:
        document["align"] = dict(align)
    return _written(document, space)


def average_recipe(space: WrittenSpace) -> str:
    """Return the recipe of the plain average."""
    return plain_recipe(space, "linear", {})


def scaled_recipe(space: WrittenSpace, scale: float) -> str:
    """Return the recipe of plain task arithmetic with one scale for all."""
    return plain_recipe(space, "task_arithmetic", {"lambda": scale})


def _written(document: dict[str, Any], space: WrittenSpace) -> str:
    """Return a recipe as YAML, in the type that the space asks for."""
    if space.dtype is not None:
        document["dtype"] = space.dtype
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)


def _dimensions(method: str, space: WrittenSpace) -> Iterator[Dimension]:
    known = registry()[method]
    written = space.search.parameters
    weights = space.search.weights
    varies_weights = weights is not None or known.kind == "coefficient"
    open_settings = known.settings.keys() - written.keys()
    if varies_weights and "weight" in known.settings:
        yield from _weight_dimensions(weights or WrittenWeights(), model_names(space))
    elif "lambda" in open_settings and known.base == "delta":
        for point in range(2):
            yield Dimension(f"lambda.{point}", *SCALES, log=True)
    if "density" in open_settings:
        yield Dimension("density", choices=DENSITIES)
    own = {name: value for name, value in written.items() if name in known.settings}
    yield from _ranges(own)
    if space.search.include is not None:
        for name in model_names(space):
            yield Dimension(f"include.{name}", choices=(True, False))
    yield from _ranges(space.search.align or {}, "align.")


def _ranges(values: Mapping[str, Any], prefix: str = "") -> Iterator[Dimension]:
    """Yield a dimension for each value that is a range."""
    for name, value in values.items():
        if _is_range(value):
            yield _range(f"{prefix}{name}", value)


def _weight_dimensions(weights: WrittenWeights, names: Sequence[str]) -> Iterator[Dimension]:
    owners = names if weights.per == "model" else ("",)
    roles = (*weights.roles, "") if weights.roles else ("",)
    points = range(weights.points) if weights.over == "depth" else (0,)
    low, high = weights.range
    for owner, role, point in product(owners, roles, points):
        yield Dimension(weight_name(owner, role, point), low, high)


def weight_name(model: str, role: str, point: int) -> str:
    """Name the dimension of a weight: `weight.MODEL.ROLE.POINT`; an empty model is all, an empty role the rest."""
    return f"weight.{model}.{role}.{point}"


def _weight(weights: WrittenWeights, owner: str, values: Values) -> Any:
    """Return a model's weight as a recipe has it: a number, a gradient, or gradients by filter. None if it is fixed."""
    choices: list[dict[str, Any]] = []
    for role in (*weights.roles, ""):
        numbers = []
        for point in range(weights.points):
            name = weight_name(owner, role, point)
            if name in values:
                numbers.append(float(values[name]))
        if numbers:
            choice: dict[str, Any] = {"filter": role} if role else {}
            choice["value"] = _number_or_gradient(numbers)
            choices.append(choice)
    if not choices:
        return None
    if not weights.roles:
        return choices[0]["value"]
    return choices


def _points(name: str, values: Values) -> list[float]:
    points: list[float] = []
    while f"{name}.{len(points)}" in values:
        points.append(float(values[f"{name}.{len(points)}"]))
    return points


def _number_or_gradient(numbers: list[float]) -> float | list[float]:
    return numbers[0] if len(numbers) == 1 else numbers


def _as_mapping(model: object) -> object:
    return {"model": model} if isinstance(model, str) else model


def _default_of(dimension: Dimension, method: Method) -> float | str | bool:
    setting = method.settings.get(dimension.name.split(".")[0])
    default = None if setting is None else setting.default
    if default is None:
        default = 1.0
    if dimension.choices:
        return default if default in dimension.choices else dimension.choices[0]
    if isinstance(default, str | bool):
        return default
    return min(max(float(default), dimension.low), dimension.high)


def _is_range(value: object) -> bool:
    return isinstance(value, dict | list)


def _range(name: str, value: Any) -> Dimension:
    """Read a range: `[low, high]`, `{log: [low, high]}` or `{choice: [...]}`."""
    if isinstance(value, list):
        return Dimension(name, *_bounds(name, value))
    match value:
        case {"choice": [_, *_] as choices, **rest} if not rest:
            return Dimension(name, choices=tuple(choices))
        case {"log": bounds, **rest} if not rest:
            low, high = _bounds(name, bounds)
            if low <= 0:
                raise RecipeError(f"{name}: a logarithmic range starts above 0, found {low:g}")
            return Dimension(name, low, high, log=True)
    raise RecipeError(f"{name}: expected [low, high], {{log: [low, high]}} or {{choice: [...]}}, found {value}")


def _bounds(name: str, bounds: Any) -> tuple[float, float]:
    match bounds:
        case [int() | float() as low, int() | float() as high] if -math.inf < low < high < math.inf:
            return float(low), float(high)
    raise RecipeError(f"{name}: expected two numbers, the lower one first, found {bounds}")


def _located(space: WrittenSpace, folder: Path) -> WrittenSpace:
    """Return the space with its local models and files named by whole paths: its recipes are read elsewhere."""
    models = []
    for model in space.models:
        text = None if model.text is None else _whole_file(model.text, folder)
        models.append(WrittenModel(model=_whole(model.model, folder), text=text))
    tasks = [_whole_file(task, folder) for task in space.tasks]
    return space.model_copy(update={"base_model": _whole(space.base_model, folder), "models": models, "tasks": tasks})


def _whole(reference: str, folder: Path) -> str:
    """Return references to files of the folder as whole paths; of `model+adapter` both halves."""
    halves = []
    for half in reference.split("+"):
        path = folder / half
        halves.append(str(path.resolve()) if path.exists() else half)
    return "+".join(halves)


def _whole_file(name: str, folder: Path) -> str:
    """Return the whole path of a file in the folder. A folder of a bundled task's name is not that task."""
    path = folder / name
    return str(path.resolve()) if path.is_file() else name


def _checked(space: WrittenSpace, where: str) -> WrittenSpace:
    """Refuse a space of which no recipe could be made, with all its problems at once."""
    problems = [*_method_problems(space), *_parameter_problems(space), *_other_problems(space)]
    if not problems:
        try:
            arms_of(space)
        except RecipeError as error:
            problems.append(error.message)
    if problems:
        raise RecipeError("; ".join(problems), where=where)
    return space


def _method_problems(space: WrittenSpace) -> Iterator[str]:
    methods, count = registry(), len(space.models)
    for name in space.search.method:
        if name not in methods:
            yield f"search.method: there is no method '{name}'{_meant(name, methods)}"
            continue
        low, high = methods[name].models
        is_above = high is not None and count > high
        if count < low or is_above:
            yield f"search.method: '{name}' does not merge {count} models"


def _parameter_problems(space: WrittenSpace) -> Iterator[str]:
    methods = registry()
    known: set[str] = set()
    for name in space.search.method:
        if name in methods:
            known.update(methods[name].settings)
    for name in space.search.parameters:
        if name not in known:
            yield f"search.parameters: no method of the space takes '{name}'{_meant(name, sorted(known))}"


def _other_problems(space: WrittenSpace) -> Iterator[str]:
    for anchor in space.anchors:
        names_a_file = isinstance(anchor, dict) and set(anchor) == {"file"}
        if not names_a_file and anchor not in ("parents", "average", "defaults", "lambda"):
            yield f"anchors: expected parents, average, defaults, lambda or file: PATH, found '{anchor}'"
    if space.objectives and space.sampler in ("cma", "gp"):
        yield f"sampler: '{space.sampler}' knows one objective only; leave it out, and `tpe` is taken"
    lack_text = any(model.text is None for model in space.models)
    if lack_text and space.search.align is not None:
        yield "search.align: every model needs a `text`"


def _meant(name: str, known: Iterable[str]) -> str:
    nearest = closest(name, list(known))
    return f"; did you mean '{nearest}'?" if nearest else ""
