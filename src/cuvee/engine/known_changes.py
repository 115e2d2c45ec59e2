"""Merged changes of whole matrices, kept from one merge to the next: for merges that differ in `lambda` alone.

A matrix method takes most of its time before the change is scaled and added to the base. The caller vouches that the
models behind the references stay as they are.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.plan import MergeStep, Plan
from cuvee.plan.matrices import on_matrices
from cuvee.plan.plan import Input

MOST_KEPT = 2
"""Changes of one tensor: the newest ones."""


class KnownChanges:
    """The last merged changes of each tensor, by all that they depend on."""

    def __init__(self) -> None:
        self._changes: dict[str, OrderedDict[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """How much memory the changes take."""
        changes = chain.from_iterable(kept.values() for kept in self._changes.values())
        return sum(change.nbytes for change in changes)

    def of(self, plan: Plan) -> "ChangesOfPlan":
        """Return those of a plan."""
        return ChangesOfPlan(self, plan)

    def get(self, name: str, question: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the change of a tensor that is the answer to a question, computed if it is not known."""
        with self._lock:
            kept = self._changes.setdefault(name, OrderedDict())
            if question in kept:
                kept.move_to_end(question)
                return kept[question]
        change = compute()
        change.flags.writeable = False
        with self._lock:
            kept[question] = change
            while len(kept) > MOST_KEPT:
                kept.popitem(last=False)
        return change


class ChangesOfPlan:
    """The changes that the steps of a plan ask for."""

    def __init__(self, changes: KnownChanges, plan: Plan) -> None:
        self._changes = changes
        self._models = [str(model) for model in plan.models]
        modifying = [[chosen.key, dict(chosen.settings)] for chosen in filter(on_matrices, plan.recipe.post)]
        statistics = []
        for model, own in zip(self._models, plan.statistics, strict=False):
            if own is not None:
                statistics.append([model, own.digest])
        self._about = [[plan.method.key, plan.recipe.semantics, plan.device], modifying, statistics]
        self._of_matrices = plan.method.kind == "matrix"

    def get(self, step: MergeStep, dtype: np.dtype, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the merged change of a step in `dtype`, before it is scaled; of no matrix it is always computed."""
        if not self._of_matrices or step.cut is None:
            return compute()
        cut = [step.cut.stacked, step.cut.sizes, step.cut.input_first]
        inputs = [self._input(given) for given in step.all_inputs]
        question = json.dumps([self._about, str(dtype), step.shape, cut, inputs, dict(step.settings)], default=_plain)
        return self._changes.get(step.name, blake3(question.encode()).hexdigest(), compute)

    def _input(self, given: Input) -> list[Any]:
        rows = given.rows.digest if given.rows is not None else None
        return [self._models[given.model], given.tensor, given.dtype, rows]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no setting that can be compared")
