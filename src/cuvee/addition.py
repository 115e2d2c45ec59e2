"""Additions of a recipe to a method: weight rules and modifiers, one file each in `weights/` and `modifiers/`.

As with methods, a function's signature is its schema: keyword-only arguments are the settings that a recipe may give.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from cuvee.method import WorkOf, setting_of
from cuvee.ops.input_statistics import InputStatistic, statistics_in
from cuvee.recipe.setting import Setting

Measures = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Addition:
    """An addition. `measures` says whether, with these settings, it needs numbers that are found in the tensors.

    `on_changes` says that it works only with methods that merge task vectors, the changes from a base. A modifier with
    `work` works on the merged matrices themselves, which is that much work; the others give each tensor a factor. Its
    `inputs` are statistics of the base's inputs. `by_loss` says that a weight rule takes the models' losses.
    """

    key: str
    rule: Callable[..., Any]
    formula: str
    paper: str
    settings: Mapping[str, Setting]
    on_changes: bool
    measures: Measures
    work: WorkOf | None = None
    inputs: Mapping[str, InputStatistic] = field(default_factory=dict)
    by_loss: bool = False

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.rule) or "").partition("\n")[0]


@dataclass(frozen=True)
class MergedTensor:
    """The facts of an output tensor that modifiers know. Norms are squared, and 0 or none before they are measured.

    `depth` goes from 0 in the first layer to 1 in the last, and is 0 outside the layers. `models` has the norm of each
    task vector, `summed` is that of their plain sum, `merged` that of the change as it stands, without lambda.
    """

    depth: float
    models: tuple[float, ...] = ()
    summed: float = 0.0
    merged: float = 0.0

    def scaled(self, factor: float) -> "MergedTensor":
        """Return the same tensor with its change multiplied."""
        return replace(self, merged=self.merged * factor * factor)


def weight_rule(
    key: str, *, formula: str, paper: str = "", measures: bool = False, by_loss: bool = False
) -> Callable[[Callable[..., Any]], Addition]:
    """Make a rule that gives each model its `weight`.

    The function takes the number of models, or if it `measures` the squared norms of their task vectors, each of the
    whole model, or with `by_loss` each model's loss on one text, from the recipe's `statistics`. It returns one number
    a model. ValueError says that its settings do not fit.
    """
    return lambda rule: Addition(
        key, rule, formula, paper, _settings(rule), on_changes=measures, measures=lambda settings: measures,
        by_loss=by_loss,
    )  # fmt: skip


def modifier(
    key: str, *, formula: str, measures: Measures, paper: str = ""
) -> Callable[[Callable[..., Any]], Addition]:
    """Make a modifier of the merged change. The function takes all `MergedTensor`s and returns a factor for each."""
    return lambda rule: Addition(key, rule, formula, paper, _settings(rule), on_changes=True, measures=measures)


def matrix_modifier(
    key: str, *, formula: str, work: WorkOf, paper: str = ""
) -> Callable[[Callable[..., Any]], Addition]:
    """Make a modifier of merged matrices: the function takes a matrix [out, in] and the task vectors [models, out, in].

    It returns the modified matrix. `work` (models, out, in) says how much that takes. Other tensors stay as they are.
    """
    return lambda rule: Addition(
        key,
        rule,
        formula,
        paper,
        _settings(rule),
        on_changes=True,
        measures=lambda settings: False,
        work=work,
        inputs=MappingProxyType(statistics_in(inspect.signature(rule, eval_str=True).parameters)),
    )


def _settings(rule: Callable[..., Any]) -> Mapping[str, Setting]:
    parameters = inspect.signature(rule, eval_str=True).parameters
    inputs = statistics_in(parameters)
    settings = {p.name: setting_of(p) for p in parameters.values() if p.kind == p.KEYWORD_ONLY and p.name not in inputs}
    return MappingProxyType(settings)
