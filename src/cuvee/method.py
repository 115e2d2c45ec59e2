"""The type of a merge method, and the decorators that make one.

A method is one file in `methods/` that holds one decorated function. Its signature is its schema: keyword-only
settings with ranges, `PerModel` for numbers that each model may set itself, and arguments annotated with a survey,
which the engine supplies. Recipe checks, `cuvee methods` and the docs read it from there.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from cuvee.ops.arrays import Array
from cuvee.ops.gram import gram
from cuvee.ops.input_statistics import (
    InputStatistic,
    fisher_of_entries,
    gram_of_inputs,
    mean_abs_of_inputs,
    statistics_in,
)
from cuvee.ops.stepwise import Stepwise
from cuvee.ops.survey import Scope, Survey
from cuvee.ops.work import Work
from cuvee.recipe.setting import Range, Setting, SettingKind

Kind = Literal["coefficient", "element", "matrix"]
BaseUse = Literal["delta", "optional", "endpoint", "member"]
"""How a method uses the base model: its task vectors are taken from it and the result is added to it (`delta`), the
same if there is one (`optional`), it is the first of two ends (`endpoint`), or a model like the others (`member`)."""

Reproducible = Literal["bits", "tolerance"]

UNIT = Range(0, 1)

_PER_MODEL = "a number that each model may set itself"
PerModel = Annotated[Any, _PER_MODEL]
Gram = Annotated[Any, gram]
InputGram = Annotated[Any, gram_of_inputs]
"""Of each model the Gram matrix XᵀX/n [in, in] of what a matrix is multiplied with, from the recipe's `statistics`."""

InputMeanAbs = Annotated[Any, mean_abs_of_inputs]
"""The mean absolute value [in] of each channel of what a matrix is multiplied with: for modifiers, of the base."""

FisherDiagonal = Annotated[Any, fisher_of_entries]
"""Of each model the mean squared gradients of its loss on a text by each entry, of length 1 over the whole model; for
methods of entries. They are zero for a tensor of which any model has none."""

_KINDS: Mapping[Any, SettingKind] = {bool: "boolean", int: "integer", float: "number", Any: "number"}
"""Kinds of settings by the types that annotate them."""

_Mark = TypeVar("_Mark")

_LAMBDA = Setting("lambda", "number", default=1.0)
_INT8_MASK = Setting("int8_mask", "boolean", default=False)

Fallback = Literal["mean", "sum", "base"]
"""What a matrix method does with tensors that are no matrices to it: their task vectors' weighted mean, their weighted
sum, or nothing, so that they stay as in the base model."""

FALLBACK = Setting("fallback", "text", default="mean", choices=get_args(Fallback))
EMBEDDINGS = Setting("include_embeddings", "boolean", default=False)
_NOT_SETTINGS = ("semantics", "full_rank")
"""Arguments that the engine supplies by these names: the recipe's semantics, and the rank that a whole matrix can have
where a rule sees only the small space that its task vectors live in."""

WorkOf = Callable[[int, int, int], Work]

MaskRule = Callable[[Array, Array], Array]
"""Takes a model's task vector and the merged change, entries of one tensor; returns the model's mask, true or false."""


@dataclass(frozen=True)
class Cost:
    """The cost of a method on a tensor.

    - `unit`: elements that must stay together.
    - `holds`: bytes that its surveys keep beyond a few numbers a model.
    - `surveying`: readings before the merge, at most.
    - `in_kernels`: the rule needs no arrays of its own.
    """

    unit: int
    holds: int
    surveying: int
    in_kernels: bool


@dataclass(frozen=True)
class Method:
    """A merge method.

    `rule` gives coefficients [models], the merged stack of a block, or the merged change of a matrix, whichever `kind`
    says. A matrix method says how much `work` (models, out, in) it is, and whether it is `equivariant`: the same in any
    orthonormal bases of the inputs and outputs. `inputs` are its arguments that are statistics of the models' inputs.
    A `stepwise` rule takes its place where 16 bits are computed in. With `masks` a merge leaves a mask and a scale of
    each model beside the merged model, from which `cuvee.rebuild` makes the model again.
    """

    key: str
    kind: Kind
    rule: Callable[..., Any]
    paper: str
    formula: str
    base: BaseUse
    models: tuple[int, int | None]
    reproducible: Reproducible
    settings: Mapping[str, Setting]
    surveys: Mapping[str, Survey]
    takes_semantics: bool
    staged: bool = False
    work: WorkOf | None = None
    equivariant: bool = False
    stepwise: Stepwise | None = None
    inputs: Mapping[str, InputStatistic] = field(default_factory=dict)
    masks: MaskRule | None = None

    @property
    def takes_full_rank(self) -> bool:
        return "full_rank" in inspect.signature(self.rule).parameters

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.rule) or "").partition("\n")[0]

    @property
    def own_settings(self) -> tuple[str, ...]:
        """Names of the settings that the rule itself takes."""
        return tuple(name for name in inspect.signature(self.rule).parameters if name in self.settings)

    @property
    def step_settings(self) -> tuple[str, ...]:
        """Names of the settings that decide how a tensor is merged: the rule's own, and those of its kind."""
        return (*self.own_settings, *((FALLBACK.name, EMBEDDINGS.name) if self.kind == "matrix" else ()))

    def unit(self, shape: tuple[int, ...], semantics: str, settings: Mapping[str, Any]) -> int:
        """Return how many elements of a tensor must stay together: rows, groups, or 1."""
        return math.lcm(*(survey.unit(shape, semantics, settings) for survey in self.surveys.values()))

    def holds(self, models: int, shape: tuple[int, ...], semantics: str, settings: Mapping[str, Any]) -> int:
        """Return the bytes that the surveys of a tensor keep beyond a few numbers a model."""
        return sum(survey.holds(models, shape, semantics, settings) for survey in self.surveys.values())

    def surveying(self, semantics: str, settings: Mapping[str, Any], *, whole_model: bool = False) -> int:
        """Return how often at most the surveys of a tensor, or those of the whole model, read their inputs."""
        return sum(
            survey.passes(semantics, settings)
            for survey in self.surveys.values()
            if (survey.scope(semantics, settings) == "model") == whole_model
        )

    def cost(self, models: int, shape: tuple[int, ...], semantics: str, settings: Mapping[str, Any]) -> "Cost":
        """Return the cost of a tensor of so many models with these settings."""
        return Cost(
            unit=self.unit(shape, semantics, settings),
            holds=self.holds(models, shape, semantics, settings),
            surveying=self.surveying(semantics, settings),
            in_kernels=self.in_kernels(semantics, settings),
        )

    def in_kernels(self, semantics: str, settings: Mapping[str, Any]) -> bool:
        """Say whether the rule leaves all arithmetic on a tensor's numbers to kernels."""
        return self.staged or (self.kind == "coefficient" and self.spread(semantics, settings) == "tensor")

    def spread(self, semantics: str, settings: Mapping[str, Any]) -> Scope:
        """Return the scope of a coefficient: each tensor, each row, or each column."""
        scopes = [survey.scope(semantics, settings) for survey in self.surveys.values()]
        return next((scope for scope in scopes if scope in ("row", "column")), "tensor")


def coefficient_method(
    key: str,
    *,
    formula: str,
    paper: str = "",
    base: BaseUse = "member",
    models: tuple[int, int | None] = (1, None),
    reproducible: Reproducible = "bits",
    stepwise: Stepwise | None = None,
) -> Callable[[Callable[..., Any]], Method]:
    """Make a method whose merged tensor is a linear combination; the rule gives the coefficients.

    With base "delta" (or "optional" and a base given) the task vectors are combined and the base is added.
    """

    def decorate(rule: Callable[..., Any]) -> Method:
        return replace(_method(key, "coefficient", rule, paper, formula, base, models, reproducible), stepwise=stepwise)

    return decorate


def element_method(
    key: str,
    *,
    formula: str,
    paper: str = "",
    base: BaseUse = "delta",
    models: tuple[int, int | None] = (1, None),
    reproducible: Reproducible = "bits",
    staged: bool = False,
    stepwise: Stepwise | None = None,
    masks: MaskRule | None = None,
) -> Callable[[Callable[..., Any]], Method]:
    """Make a method that works entry by entry on task vectors; the rule gives the merged task vector.

    With another use of the base than "delta" it works on the models themselves and gives the merged model. A `staged`
    rule does nothing but pass them through the stages of `ops.task_vectors`, which kernels then do at once. With a rule
    of `masks` a merge to a folder also leaves a mask and a scale for each model, in a folder called like the method.
    """

    def decorate(rule: Callable[..., Any]) -> Method:
        made = _method(key, "element", rule, paper, formula, base, models, reproducible)
        return replace(made, staged=staged, stepwise=stepwise, masks=masks)

    return decorate


def matrix_method(
    key: str,
    *,
    formula: str,
    work: WorkOf,
    paper: str = "",
    base: Literal["delta", "optional"] = "delta",
    models: tuple[int, int | None] = (1, None),
    equivariant: bool = True,
) -> Callable[[Callable[..., Any]], Method]:
    """Make a method that needs whole matrices; the rule takes task vectors [models, out, in], returns [out, in].

    With base "optional" and no base given, it takes the models themselves. An argument annotated with `InputGram` gets
    the statistics that the recipe names. Other tensors are combined as the recipe's `fallback` says. The result is
    calculated in float64. Decompositions differ in the last digits from one machine to another, so the bytes do.
    """

    def decorate(rule: Callable[..., Any]) -> Method:
        made = _method(key, "matrix", rule, paper, formula, base, models, "tolerance")
        own = {name: setting for name, setting in made.settings.items() if setting != _INT8_MASK}
        settings = own | {FALLBACK.name: FALLBACK, EMBEDDINGS.name: EMBEDDINGS}
        return replace(made, settings=MappingProxyType(settings), work=work, equivariant=equivariant)

    return decorate


def _method(
    key: str,
    kind: Kind,
    rule: Callable[..., Any],
    paper: str,
    formula: str,
    base: BaseUse,
    models: tuple[int, int | None],
    reproducible: Reproducible,
) -> Method:
    parameters = inspect.signature(rule, eval_str=True).parameters
    inputs = statistics_in(parameters)
    surveys: dict[str, Survey] = {}
    settings: dict[str, Setting] = {}
    for name, parameter in parameters.items():
        survey = _mark(parameter, Survey)
        if survey is not None:
            surveys[name] = survey
        elif parameter.kind is parameter.KEYWORD_ONLY and name not in {*inputs, *_NOT_SETTINGS}:
            settings[name] = setting_of(parameter)
    if base in ("delta", "optional"):
        settings |= {"lambda": _LAMBDA, "int8_mask": _INT8_MASK}
    return Method(
        key, kind, rule, paper, formula, base, models, reproducible,
        MappingProxyType(settings), MappingProxyType(surveys), "semantics" in parameters,
        inputs=MappingProxyType(inputs),
    )  # fmt: skip


def _mark(parameter: inspect.Parameter, kind: type[_Mark]) -> _Mark | None:
    """Return the first mark of a kind that a parameter is annotated with."""
    for mark in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(mark, kind):
            return mark
    return None


def setting_of(parameter: inspect.Parameter) -> Setting:
    """Read from a parameter's annotation and default how a recipe may set it."""
    annotation = parameter.annotation
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    choices = get_args(plain) if get_origin(plain) is Literal else ()
    required = parameter.default is inspect.Parameter.empty
    return Setting(
        parameter.name,
        "text" if choices else _KINDS[plain],
        per_model=_PER_MODEL in getattr(annotation, "__metadata__", ()),
        default=None if required else parameter.default,
        required=required,
        within=_mark(parameter, Range) or Range(),
        choices=choices,
    )
