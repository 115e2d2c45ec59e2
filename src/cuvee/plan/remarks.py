"""What planning has to say: problems, warnings, notes, and facts of single tensors that are said once for all.

A step of planning yields its remarks and returns its result; `cuvee.plan.make` alone gathers them.
"""

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from cuvee.errors import CheckpointError, CuveeError, RecipeError
from cuvee.plan.agree import counted, few
from cuvee.plan.materials import Materials
from cuvee.recipe.reference import ModelRef

_T = TypeVar("_T")
_Fact = TypeVar("_Fact")


@dataclass(frozen=True)
class PlanWarning:
    """A sentence on something that may be wrong with the output."""

    text: str


@dataclass(frozen=True)
class PlanNote:
    """A sentence on something that planning decided."""

    text: str


@dataclass(frozen=True)
class LacksTensor:
    """A model, with these `tensors`, has none of a name that an output tensor needs."""

    model: ModelRef
    tensor: str
    needed_for: str
    tensors: Collection[str]

    def problem(self, guess: str | None) -> CheckpointError:
        """Return the problem, with the tensor that may be meant."""
        hint = f"the closest is '{guess}'" if guess else None
        message = f"has no tensor '{self.tensor}', needed for '{self.needed_for}'"
        return CheckpointError(message, where=str(self.model), hint=hint)


@dataclass(frozen=True)
class LacksSetting:
    """A setting has no value for a tensor; `model` is empty where it is not set by model."""

    name: str
    model: str


@dataclass(frozen=True)
class Refusal:
    """The method cannot merge a tensor, or not with the settings that it has there."""

    complaint: str
    tensor: str


@dataclass(frozen=True)
class Clash:
    """The models' tensors of a name are of different shapes, or are to be copied and of different types."""

    of: Literal["shapes", "types"]
    problem: CheckpointError


@dataclass(frozen=True)
class MixedTypes:
    """The models store a tensor in different types, which may be."""

    types: str
    tensor: str


@dataclass(frozen=True)
class Decision:
    """A rule that decided about a tensor, as a sentence."""

    rule: str


TensorFact = LacksSetting | Refusal | Clash | MixedTypes | Decision
"""A fact of a single tensor that many others may share: it is counted and said once."""

Remark = CuveeError | PlanWarning | PlanNote | LacksTensor | TensorFact
"""Something that planning has to say; an error among them is a problem, which forbids the merge."""

Remarks = Generator[Remark, None, _T]
"""A step of planning: it yields remarks and returns a result."""


def remarks(
    problems: Iterable[CuveeError] = (), warnings: Iterable[str] = (), notes: Iterable[str] = ()
) -> Iterator[Remark]:
    """Yield problems, warnings and notes as remarks."""
    yield from problems
    for warning in warnings:
        yield PlanWarning(warning)
    for note in notes:
        yield PlanNote(note)


def summary(facts: Sequence[TensorFact], materials: Materials) -> Iterator[Remark]:
    """Yield a remark on each fact, with the number of tensors or the first tensors that share it."""
    clashes = _of_type(Clash, facts)
    yield from few([clash.problem for clash in clashes if clash.of == "shapes"], "different shapes")
    yield from few([clash.problem for clash in clashes if clash.of == "types"], "different types")
    yield from _mixed_types(_of_type(MixedTypes, facts))
    for sentence in counted(Counter(decision.rule for decision in _of_type(Decision, facts))):
        yield PlanNote(sentence)
    yield from _lacking_settings(_of_type(LacksSetting, facts), materials)
    yield from _refusals(_of_type(Refusal, facts), materials)


def _of_type(kind: type[_Fact], facts: Sequence[TensorFact]) -> list[_Fact]:
    return [fact for fact in facts if isinstance(fact, kind)]


def _mixed_types(facts: Sequence[MixedTypes]) -> Iterator[PlanNote]:
    tensors: dict[str, list[str]] = {}
    for fact in facts:
        tensors.setdefault(fact.types, []).append(fact.tensor)
    for types, names in tensors.items():
        text = f"{_and_others(names)}: inputs are {types}; 'dtype' in the recipe would say the type"
        yield PlanNote(text)


def _lacking_settings(facts: Sequence[LacksSetting], materials: Materials) -> Iterator[RecipeError]:
    method = materials.method.key
    hint = f"'{method}' needs it; set it for the model, or for all under the recipe's 'parameters'"
    for fact, count in Counter(facts).items():
        whose = f" for {fact.model}" if fact.model else ""
        message = f"parameter '{fact.name}' has no value{whose} in {count} tensors"
        yield RecipeError(message, where=materials.recipe.source, hint=hint)


def _refusals(facts: Sequence[Refusal], materials: Materials) -> Iterator[RecipeError]:
    tensors: dict[str, list[str]] = {}
    for fact in facts:
        tensors.setdefault(fact.complaint, []).append(fact.tensor)
    for complaint, names in tensors.items():
        message = f"'{materials.method.key}': {complaint} (in {_and_others(names)})"
        yield RecipeError(message, where=materials.recipe.source)


def _and_others(names: Sequence[str]) -> str:
    """Name the first tensor, and count the others: `'a.weight' and 3 tensors more`."""
    text = f"'{names[0]}'"
    if len(names) > 1:
        text += f" and {len(names) - 1} tensors more"
    return text
