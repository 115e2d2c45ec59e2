"""The models of each output tensor, where models overlap in part only. Nothing is left out unsaid."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cuvee.errors import CuveeError, RecipeError
from cuvee.method import Method
from cuvee.plan.agree import counted
from cuvee.plan.names import View
from cuvee.plan.task_heads import head_owners
from cuvee.recipe.groups import Group
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.structure import TensorPlace, depth_said, predicts_ahead, text_config
from cuvee.structure.task_heads import has_tokens, task_head


@dataclass(frozen=True)
class Taking:
    """How an output tensor is made: taken from a model as it is, or merged from the models that have it."""

    name: str
    place: TensorPlace
    taken: ModelRef | None
    lacking: frozenset[ModelRef] = frozenset()


@dataclass(frozen=True)
class Overlap:
    """All output tensors, and for each model the names that need no complaint if only some models have them.

    `warnings` are of weights that the output lacks, `notes` of where the others come from.
    """

    takings: tuple[Taking, ...]
    excused: Mapping[ModelRef, frozenset[str]]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[CuveeError, ...]


def overlap(recipe: Recipe, method: Method, views: Mapping[ModelRef, View], donor: ModelRef) -> Overlap:
    """Decide for every tensor of every model, by the recipe's groups and its rule for missing tensors."""
    return _Decider(recipe, method, views, donor).decide()


def group_of(place: TensorPlace, recipe: Recipe) -> Group | None:
    """Return the group of a tensor that the recipe speaks of: its purpose goes before its module."""
    purpose = _purpose(place)
    if purpose in recipe.groups:
        return purpose
    return place.module if place.module in recipe.groups else None


def _purpose(place: TensorPlace) -> Group | None:
    is_vocabulary = place.role in ("embedding", "head")
    if is_vocabulary and place.module in ("language", "encoder", "decoder"):
        return "embeddings"
    is_single, is_stack = place.expert is not None, place.experts is not None
    if is_single or is_stack:
        return "experts"
    return "routers" if place.role == "router" else None


def is_ahead(place: TensorPlace, view: View) -> bool:
    """Say whether a tensor predicts tokens further ahead: by its name, or because it lies behind the last layer."""
    if predicts_ahead(place.name):
        return True
    if place.layer is None or place.module != "language":
        return False
    depth = depth_said(text_config(view.source.config))
    return depth is not None and place.layer >= depth


class _Decider:
    """Decides tensor by tensor, and counts the decisions that a reader must know."""

    def __init__(self, recipe: Recipe, method: Method, views: Mapping[ModelRef, View], donor: ModelRef) -> None:
        self.recipe = recipe
        self.method = method
        self.views = views
        self.donor = donor
        self.notes: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.excused: dict[ModelRef, set[str]] = {model: set() for model in views}
        self.problems: list[CuveeError] = []
        self.has_tokens = has_tokens(views[donor].source.config)
        self.heads: Mapping[str, ModelRef] = {}
        try:
            self.heads = head_owners(recipe, views)
        except RecipeError as error:
            self.problems.append(error)

    def decide(self) -> Overlap:
        """Decide about every tensor, in the donor's order and then in that of the others."""
        owners = dict.fromkeys(self.views[self.donor].called, self.donor)
        for model, view in self.views.items():
            for name in view.called:
                owners.setdefault(name, model)
        takings = []
        for name, owner in owners.items():
            taking = self.taking(name, owner)
            if taking is not None:
                takings.append(taking)
        excused = {model: frozenset(names) for model, names in self.excused.items()}
        warnings, notes = counted(self.warnings), counted(self.notes)
        return Overlap(tuple(takings), excused, warnings, notes, tuple(self.problems))

    def taking(self, name: str, owner: ModelRef) -> Taking | None:
        """Decide about a tensor; None if the output lacks it, which a check of names or a note says."""
        view = self.views[owner]
        place = view.structure.of(view.called[name])
        lacking = frozenset(model for model, other in self.views.items() if name not in other.called)
        if self.recipe.mtp is not None and is_ahead(place, view):
            return self.ahead(name, place, self.recipe.mtp, lacking)
        if self.heads:
            head = task_head(name, has_tokens=self.has_tokens)
            if head is not None and head in self.heads:
                return self.of_head(name, place, head, lacking)
        group = group_of(place, self.recipe)
        if group is not None:
            return self.chosen(name, place, group, self.recipe.groups[group], lacking)
        if not lacking:
            return Taking(name, place, None)
        if place.role == "buffer" or self.recipe.missing == "base":
            return self.by_donor(name, place, lacking)
        if self.recipe.missing == "skip":
            return self.by_owners(name, place, lacking)
        return None

    def owners(self, lacking: frozenset[ModelRef]) -> list[ModelRef]:
        """List the models that have a tensor."""
        return [model for model in self.views if model not in lacking]

    def ahead(
        self, name: str, place: TensorPlace, policy: ModelRef | Literal["drop"], lacking: frozenset[ModelRef]
    ) -> Taking | None:
        if policy != "drop":
            return self.chosen(name, place, "mtp", policy, lacking)
        self.excuse(name)
        self.notes["'mtp: drop': what predicts tokens further ahead is left out"] += 1
        return None

    def of_head(self, name: str, place: TensorPlace, head: str, lacking: frozenset[ModelRef]) -> Taking | None:
        self.excuse(name)
        model = self.heads[head]
        if model in lacking:
            owners = _list(self.owners(lacking))
            self.warnings[f"'head' is taken from {model}: '{head}', which only {owners} has, is left out"] += 1
            return None
        self.notes[f"the head '{head}' is taken from {model}"] += 1
        return Taking(name, place, model)

    def chosen(
        self,
        name: str,
        place: TensorPlace,
        group: Group | Literal["mtp"],
        model: ModelRef,
        lacking: frozenset[ModelRef],
    ) -> Taking | None:
        self.excuse(name)
        if model not in lacking:
            if lacking:
                self.notes[f"'{group}' is taken from {model}; {_list(lacking)} lacks it"] += 1
            return Taking(name, place, model)
        if self.donor not in lacking:
            message = f"'{group}: {model}': {model} has no tensor '{name}', which {self.donor} has"
            self.problems.append(RecipeError(message, where=self.recipe.source))
            return None
        owners = _list(self.owners(lacking))
        self.warnings[f"'{group}' is taken from {model}: what only {owners} has of it is left out"] += 1
        return None

    def by_donor(self, name: str, place: TensorPlace, lacking: frozenset[ModelRef]) -> Taking | None:
        self.excuse(name)
        is_buffer = place.role == "buffer"
        tensors = "buffers" if is_buffer else "tensors"
        if self.donor in lacking:
            counter = self.notes if is_buffer else self.warnings
            counter[f"{tensors} that only {_list(self.owners(lacking))} has are left out"] += 1
            return None
        self.notes[f"{tensors} that {_list(lacking)} lacks are taken from {self.donor}"] += 1
        return Taking(name, place, self.donor)

    def by_owners(self, name: str, place: TensorPlace, lacking: frozenset[ModelRef]) -> Taking | None:
        self.excuse(name)
        owners = self.owners(lacking)
        if len(owners) == 1:
            self.notes[f"tensors that only {owners[0]} has are taken from it"] += 1
            return Taking(name, place, owners[0])
        base = self.recipe.base_model
        least = self.method.models[0]
        if base is not None and self.method.base in ("delta", "optional"):
            least += 1  # the base is no member
        lacks_base = base in lacking and self.method.base != "member"
        if lacks_base or len(owners) < least:
            why = "the base model is not among them" if base in lacking else f"it merges at least {least}"
            message = f"'{self.method.key}' cannot merge '{name}' from {_list(owners)} alone: {why}"
            self.problems.append(RecipeError(message, where=self.recipe.source, hint="say `missing: base`"))
            return None
        self.notes[f"tensors that {_list(lacking)} lacks are merged without it"] += 1
        return Taking(name, place, None, lacking)

    def excuse(self, name: str) -> None:
        for names in self.excused.values():
            names.add(name)


def _list(models: "frozenset[ModelRef] | list[ModelRef]") -> str:
    names = [str(model) for model in models]
    if isinstance(models, frozenset):
        names.sort()
    return ", ".join(names)
