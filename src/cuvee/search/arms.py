"""The proposals of a search: the anchors first, then the arms in turn, of which the weaker half leaves twice.

An arm is a method with a sampler of its own, because no sampler learns well over spaces that change with the method. At
a quarter and at a half of the budget the arms whose best candidate is in the lower half stop.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cuvee.errors import RecipeError
from cuvee.search.journal import Candidate, Outcome
from cuvee.search.race import Proposal
from cuvee.search.samplers import GRID_POINTS, Kind, Sampler, chosen_kind, make_sampler
from cuvee.search.space import (
    Arm,
    Values,
    WrittenSpace,
    arms_of,
    average_recipe,
    parents_of,
    scaled_recipe,
)

HALVINGS = (0.25, 0.5)
"""Shares of what the anchors leave of the budget."""


@dataclass
class ArmState:
    """An arm in a running search: its sampler, how often it was asked, its best value so far."""

    arm: Arm
    sampler: Sampler | None = None
    asked: int = 0
    best: float = -math.inf
    alive: bool = True


class Arms:
    """The proposer of a search. State: the anchors that are left, and the news that the arms have heard."""

    def __init__(self, space: WrittenSpace, folder: Path) -> None:
        self._space = space
        self._anchors = list(anchors_of(space, folder))
        self._arms = {arm.method: ArmState(arm) for arm in arms_of(space)}
        self._halved = 0
        self._anchors_spent: float | None = None
        self._scale, self._scale_value = 1.0, -math.inf

    def propose(self, number: int, spent: float) -> Proposal | None:
        """Return the next anchor, or the proposal of the arm that was asked least."""
        if self._anchors:
            return self._anchors.pop(0)
        self._halve(spent)
        while True:
            alive = [state for state in self._arms.values() if state.alive]
            if not alive:
                return None
            state = min(alive, key=lambda state: state.asked)
            values = self._sampler(state).ask(number)
            if values is not None:
                break
            state.alive = False
        return self._proposal(state, values, number)

    def proposed(self, candidate: Candidate) -> None:
        """Note a proposal of an earlier process."""
        if not candidate.arm:
            self._anchors.pop(0)
            return
        self._halve(candidate.spent)
        state = self._arms[candidate.arm]
        self._sampler(state).asked(candidate.number, candidate.values)
        state.asked += 1

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """Hear the value of a candidate. A failed candidate teaches nothing."""
        if outcome.value is None or outcome.state == "failed":
            return
        if not candidate.arm:
            if "scale" in candidate.values and outcome.value > self._scale_value:
                self._scale, self._scale_value = float(candidate.values["scale"]), outcome.value
            return
        state = self._arms[candidate.arm]
        state.best = max(state.best, outcome.value)
        self._sampler(state).tell(candidate.number, candidate.values, outcome.worth or (outcome.value,))

    def _proposal(self, state: ArmState, values: Values, number: int) -> Proposal:
        default = state.asked == 0 and "defaults" in self._space.anchors
        state.asked += 1
        name = f"{state.arm.method} as it comes" if default else f"{state.arm.method} {number}"
        return Proposal(state.arm.method, name, values, state.arm.recipe(values), anchor=default)

    def _sampler(self, state: ArmState) -> Sampler:
        """Return an arm's sampler, made when the arm is first asked: it starts from the best scale of the line."""
        if state.sampler is None:
            kind: Kind = chosen_kind(state.arm.dimensions)
            if self._space.sampler != "auto":
                kind = self._space.sampler
            start = [state.arm.default, *self._scaled(state.arm)]
            seed = self._space.seed * 1000 + list(self._arms).index(state.arm.method)
            objectives = max(1, len(self._space.objectives))
            state.sampler = make_sampler(kind, state.arm.dimensions, seed=seed, start=start, objectives=objectives)
        return state.sampler

    def _scaled(self, arm: Arm) -> list[Values]:
        """Return the arm's default with every weight at the best scale of the line, if it has weights."""
        values = dict(arm.default)
        for dimension in arm.dimensions:
            if dimension.name.startswith("weight."):
                values[dimension.name] = min(max(self._scale, dimension.low), dimension.high)
        return [values] if values != arm.default else []

    def _halve(self, spent: float) -> None:
        """Stop the weaker half of the arms when a quarter, and when half, of the budget after the anchors is gone."""
        if self._anchors_spent is None:
            self._anchors_spent = spent
        share = (spent - self._anchors_spent) / (1 - self._anchors_spent)
        while self._halved < len(HALVINGS) and share >= HALVINGS[self._halved]:
            self._halved += 1
            alive = [state for state in self._arms.values() if state.alive]
            alive.sort(key=lambda state: -state.best)
            for state in alive[math.ceil(len(alive) / 2) :]:
                state.alive = False


def anchors_of(space: WrittenSpace, folder: Path) -> list[Proposal]:
    """Return the anchors that every search is compared with: parents, their average, a line of scales, files."""
    anchors: list[Proposal] = []
    for anchor in space.anchors:
        if anchor == "parents":
            anchors += [_anchor(name, recipe) for name, recipe in parents_of(space)]
        elif anchor == "average":
            anchors.append(_anchor("average", average_recipe(space)))
        elif anchor == "lambda":
            for scale in GRID_POINTS:
                recipe = scaled_recipe(space, scale)
                anchors.append(_anchor(f"task arithmetic {scale:g}", recipe, {"scale": scale}))
        elif isinstance(anchor, Mapping):
            anchors.append(_anchor(Path(anchor["file"]).stem, _read(folder / anchor["file"])))
    return anchors


def _anchor(name: str, recipe: str, values: Values | None = None) -> Proposal:
    return Proposal("", name, values or {}, recipe, anchor=True)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError("there is no recipe to start from", where=str(file), hint="see `anchors`") from error
