"""The proposals of a bench: every method that fits, in the order of its promise, each with its scale on a line.

First each method has one try, at a scale that suits most families. Then the scale of the best method is moved up and
down by a factor until the best scale has a worse neighbour on both sides, so the line has no edge; then that of the
next best; then the best few once more, in finer steps. The order and the first scales are those of the tables in
docs/explanation/which-method.md.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cuvee.catalogue import registry
from cuvee.search.journal import Candidate, Outcome
from cuvee.search.race import Proposal
from cuvee.search.space import WrittenSpace, average_recipe, parents_of, plain_recipe

COARSE, FINE = 1.6, 1.26
FINE_METHODS = 3
"""So many of the best methods have their scale moved in fine steps, too."""

PLAIN = ("tsv_m", "task_arithmetic")
"""The first try of these answers everything: the ranking has them, however far ahead a repair by text is."""

LEAST_SCALE, MOST_SCALE = 0.02, 50.0


@dataclass(frozen=True)
class Way:
    """A method with its settings beside its scale, a modifier, a repair. `scale` is where its line begins, None for
    methods without a scale."""

    name: str
    method: str
    scale: float | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    post: str = ""
    align: Mapping[str, Any] | None = None


HALF = {"density": 0.5}
WAYS = (
    Way("tsv_m", "tsv_m", 1.2),
    Way("task_arithmetic", "task_arithmetic", 0.5),
    Way("task_arithmetic + subspace_boost", "task_arithmetic", 0.3, post="subspace_boost"),
    Way("wudi", "wudi", 0.8),
    Way("actmat", "actmat", 0.8),
    Way("cart", "cart", 1.2),
    Way("iso_c", "iso_c", 2.0),
    Way("ties", "ties", 0.8, HALF),
    Way("ties + svc", "ties", 0.8, HALF, post="svc"),
    Way("breadcrumbs_ties", "breadcrumbs_ties", 0.5, HALF),
    Way("dare_linear", "dare_linear", 0.5, HALF),
    Way("iso_cts", "iso_cts", 2.0),
    Way("ram", "ram", 2.0),
    Way("geometric_median", "geometric_median", 2.0),
    Way("breadcrumbs", "breadcrumbs", 0.5, HALF),
    Way("della_linear", "della_linear", 0.3, HALF),
    Way("multislerp", "multislerp", 1.2),
    Way("pcb", "pcb", 0.8, HALF),
    Way("localize_stitch", "localize_stitch", 0.8, HALF),
    Way("sce", "sce", 0.8),
    Way("magmax", "magmax", 0.8),
    Way("consensus", "consensus", 0.5),
    Way("cabs", "cabs", 0.8),
    Way("karcher", "karcher"),
    Way("model_stock", "model_stock", 1.0),
)
REPAIR_TOKENS = 4096
"""Of each expert's text a repair reads so many: a few hundred answers are repaired well by them, and reading on would
take more of the budget than all methods without text."""

REPAIRS = (
    Way("task_arithmetic + align", "task_arithmetic", 0.5, align={"mix": 0.3, "ridge": 3e-4, "tokens": REPAIR_TOKENS}),
    Way("linear + regmean_pp", "linear", align={"preset": "regmean_pp", "tokens": REPAIR_TOKENS}),
)
"""What is tried first where every model has a text."""


@dataclass
class Line:
    """A way in a running bench: the values of its scales. A scale that is under way has the value None."""

    way: Way
    values: dict[float, float | None] = field(default_factory=dict)

    @property
    def best(self) -> float:
        return max(map(self._worth, self.values), default=-math.inf)

    def open_scale(self, step: float) -> float | None:
        """Return a neighbour of the best scale, a step up or down, that has not been tried; None if both have."""
        if self.way.scale is None or self.best == -math.inf:
            return None
        best = max(self.values, key=self._worth)
        for scale in (best * step, best / step):
            if LEAST_SCALE <= scale <= MOST_SCALE and not self._has_tried(scale, step):
                return float(f"{scale:.3g}")
        return None

    def _has_tried(self, scale: float, step: float) -> bool:
        """Say whether a scale within half a step was tried."""
        return any(abs(math.log(scale / other)) < math.log(step) / 2 for other in self.values)

    def _worth(self, scale: float) -> float:
        value = self.values[scale]
        return -math.inf if value is None else value


class Promise:
    """The proposer of a bench. State: the parents that are left, and a line for each way."""

    def __init__(self, space: WrittenSpace) -> None:
        self._space = space
        self._anchors = list(_parents(space))
        has_texts = all(model.text for model in space.models)
        ways = (*REPAIRS, *WAYS) if has_texts else WAYS
        self._lines = {way.name: Line(way) for way in ways if _fits(way, space)}

    @property
    def ways(self) -> tuple[Way, ...]:
        """Return the ways to try, in order."""
        return tuple(line.way for line in self._lines.values())

    def propose(self, number: int, spent: float) -> Proposal | None:
        """Return the next parent; then a way that has had no try; then a neighbour of the best scale of a good way."""
        if self._anchors:
            return self._anchors.pop(0)
        for line in self._lines.values():
            if not line.values:
                return self._proposal(line, line.way.scale)
        ranked = sorted(self._lines.values(), key=lambda line: -line.best)
        for line in ranked:
            scale = line.open_scale(COARSE)
            if scale is not None:
                return self._proposal(line, scale)
        for line in ranked[:FINE_METHODS]:
            scale = line.open_scale(FINE)
            if scale is not None:
                return self._proposal(line, scale)
        return None

    def proposed(self, candidate: Candidate) -> None:
        """Note a proposal of an earlier process."""
        if not candidate.arm:
            self._anchors.pop(0)
            return
        self._lines[candidate.arm].values[_scale_of(candidate)] = None

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """Hear the value of a candidate; a failed candidate is worth nothing, and its line ends there."""
        if candidate.arm:
            failed = outcome.state == "failed" or outcome.value is None
            self._lines[candidate.arm].values[_scale_of(candidate)] = -math.inf if failed else outcome.value

    def _proposal(self, line: Line, scale: float | None) -> Proposal:
        way = line.way
        anchor = way.name in PLAIN and not line.values
        recipe = _recipe(way, scale, self._space)
        line.values[scale or 0.0] = None
        if scale is None:
            return Proposal(way.name, way.name, {}, recipe, anchor)
        return Proposal(way.name, f"{way.name}, lambda {scale:g}", {"lambda": scale}, recipe, anchor)


def _parents(space: WrittenSpace) -> Iterator[Proposal]:
    for name, recipe in parents_of(space):
        yield Proposal("", name, {}, recipe, anchor=True)
    yield Proposal("", "average", {}, average_recipe(space), anchor=True)


def _fits(way: Way, space: WrittenSpace) -> bool:
    low, high = registry()[way.method].models
    count = len(space.models)
    return low <= count <= (high or count)


def _scale_of(candidate: Candidate) -> float:
    return float(candidate.values.get("lambda", 0.0))


def _recipe(way: Way, scale: float | None, space: WrittenSpace) -> str:
    """Return the recipe of a way at a scale, as YAML."""
    scaled = {} if scale is None else {"lambda": scale}
    return plain_recipe(space, way.method, {**way.settings, **scaled}, post=way.post, align=way.align)
