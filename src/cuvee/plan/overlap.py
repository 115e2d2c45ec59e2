"""Which models each output tensor is made of, where models overlap in part only. Nothing is left out unsaid."""

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
    """How one output tensor is made: taken from one model as it is, or merged from those that have it."""

    name: str
    place: TensorPlace
    taken: ModelRef | None
    lacking: frozenset[ModelRef] = frozenset()


@dataclass(frozen=True)
class Overlap:
    """All output tensors; for each model the names whose presence or absence needs no complaint; what to say.

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
    """Return the group of a tensor that the recipe speaks of: what it is for goes before where it is."""
    if place.role in ("embedding", "head") and place.module in ("language", "encoder", "decoder"):
        kind: Group | None = "embeddings"
    elif place.expert is not None or place.experts is not None:
        kind = "experts"
    else:
        kind = "routers" if place.role == "router" else None
    return next((group for group in (kind, place.module) if group in recipe.groups), None)


def is_ahead(place: TensorPlace, view: View) -> bool:
    """Say whether a tensor is of what predicts tokens further ahead: by its name, or behind the last layer."""
    if predicts_ahead(place.name):
        return True
    if place.layer is None or place.stack is None or place.module != "language":
        return False
    depth = depth_said(text_config(view.source.config))
    return depth is not None and place.layer >= depth


class _Decider:
    """Decides tensor by tensor. State: what was decided that a reader must know, counted."""

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
        owners = {name: model for model in reversed(list(self.views)) for name in self.views[model].called}
        ordered = dict.fromkeys(self.views[self.donor].called)
        for view in self.views.values():
            ordered |= dict.fromkeys(view.called)
        takings = []
        for name in ordered:
            taking = self.taking(name, owners[name])
            if taking is not None:
                takings.append(taking)
        excused = {model: frozenset(names) for model, names in self.excused.items()}
        warnings, notes = counted(self.warnings), counted(self.notes)
        return Overlap(tuple(takings), excused, warnings, notes, tuple(self.problems))

    def taking(self, name: str, owner: ModelRef) -> Taking | None:
        """Decide what becomes of one tensor; None if it is not in the output, which `check_names` or a note says."""
        view = self.views[owner]
        place = view.structure.of(view.called[name])
        lacking = frozenset(model for model, other in self.views.items() if name not in other.called)
        if self.recipe.mtp is not None and is_ahead(place, view):
            return self.ahead(name, place, self.recipe.mtp, lacking)
        head = task_head(name, has_tokens=self.has_tokens) if self.heads else None
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
            return self.by_those_that_have_it(name, place, lacking)
        return None

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
            others = [other for other in self.views if other not in lacking]
            self.warnings[f"'head' is taken from {model}: '{head}', which only {_list(others)} has, is left out"] += 1
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
        others = [other for other in self.views if other not in lacking]
        self.warnings[f"'{group}' is taken from {model}: what only {_list(others)} has of it is left out"] += 1
        return None

    def by_donor(self, name: str, place: TensorPlace, lacking: frozenset[ModelRef]) -> Taking | None:
        self.excuse(name)
        what = "buffers" if place.role == "buffer" else "tensors"
        if self.donor in lacking:
            others = [other for other in self.views if other not in lacking]
            counter = self.notes if place.role == "buffer" else self.warnings
            counter[f"{what} that only {_list(others)} has are left out"] += 1
            return None
        self.notes[f"{what} that {_list(lacking)} lacks are taken from {self.donor}"] += 1
        return Taking(name, place, self.donor)

    def by_those_that_have_it(self, name: str, place: TensorPlace, lacking: frozenset[ModelRef]) -> Taking | None:
        self.excuse(name)
        having = [model for model in self.views if model not in lacking]
        if len(having) == 1:
            self.notes[f"tensors that only {having[0]} has are taken from it"] += 1
            return Taking(name, place, having[0])
        base = self.recipe.base_model
        least = self.method.models[0] + (self.method.base in ("delta", "optional") and base is not None)
        if (base in lacking and self.method.base != "member") or len(having) < least:
            why = "the base model is not among them" if base in lacking else f"it merges at least {least}"
            message = f"'{self.method.key}' cannot merge '{name}' from {_list(having)} alone: {why}"
            self.problems.append(RecipeError(message, where=self.recipe.source, hint="say `missing: base`"))
            return None
        self.notes[f"tensors that {_list(lacking)} lacks are merged without it"] += 1
        return Taking(name, place, None, lacking)

    def excuse(self, name: str) -> None:
        for names in self.excused.values():
            names.add(name)


def _list(models: "frozenset[ModelRef] | list[ModelRef]") -> str:
    return ", ".join(sorted(map(str, models)) if isinstance(models, frozenset) else map(str, models))
