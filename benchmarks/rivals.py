"""Searches at equal compute: ours, without racing, at random, a line of lambda, and the algorithms of two other tools.

    python benchmarks/rivals.py OUT [--seeds 5] [--candidates 100 200] [--searchers cuvee random] [--workers 2]

The bundled family: task arithmetic of five experts with three weights over the depth each, 15 numbers, on five tasks.
Everyone gets the tokens of so many full candidates on the same search items, measured by the same resident model. What
a searcher returns is scored on private items. Ours has to pay its choice on fresh items from its budget; the others
return what was best on the search items.

Two algorithms are those of other tools, written anew around our evaluator, since the tools themselves do not start with
today's libraries: mergekit-evolve is CMA-ES (package `cma`: weights begin at one part in five, sigma at a sixth,
absolute values, whole generations), mergenetic is the genetic algorithm of `pymoo` over steps of a tenth, with ten
individuals, simulated binary crossover and polynomial mutation. `pip install cma pymoo` for them.

OUT keeps what has been measured, a file for each search: a second run goes on where the first was stopped.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before torch counts the processors

import numpy as np

from cuvee import demo
from cuvee.executor import Here
from cuvee.search.racing import Scores, weighted_mean
from cuvee.search.resident import Measured, Resident, Setup, resident_of
from cuvee.search.run import search
from cuvee.search.setting import Setting, budget_of, setting_of
from cuvee.search.space import Arm, WrittenSpace, arms_of, parse_space, scaled_recipe

WEIGHTS = 1.2
"""The largest weight of our space."""

UNBOUNDED = 100.0
"""The largest weight of those who know no bound."""

LINE = [0.1 * step for step in range(1, 21)]
CHOICE = 12
"""Full candidates that our choice on fresh items may take: eight finalists, two parents, two defaults."""

DRAWS = 4000
"""Of seeds and items, for the intervals."""


@dataclass
class Evaluator:
    """Scores recipes on the search items, and counts. State: tokens spent, the best so far, the returns by budget.

    `budgets` are tokens, ascending. `best_at` has what a searcher returns that stops at each of them.
    """

    resident: Resident
    setting: Setting
    budgets: Sequence[int]
    spent: int = 0
    candidates: int = 0
    best: tuple[float, str] = (-1.0, "")
    best_at: dict[int, tuple[str, int]] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        return self.spent >= self.budgets[-1]

    def score(self, recipe: str) -> float:
        """Measure a recipe. One that does not fit into a budget any more does not count for it."""
        measured = measured_on(self.resident, recipe, self.setting.parts.search)
        self.spent += measured.tokens
        for budget in self.budgets:
            if self.spent > budget:
                self.best_at.setdefault(budget, (self.best[1], self.candidates))
        self.candidates += 1
        value = weighted_mean(measured.scores, self.setting.weights)
        self.best = max(self.best, (value, recipe), key=lambda each: each[0])
        return value

    def returned(self) -> dict[int, tuple[str, int]]:
        """Return the recipe and the number of candidates at each budget."""
        return {budget: self.best_at.get(budget, (self.best[1], self.candidates)) for budget in self.budgets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--candidates", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--searchers", nargs="+", choices=SEARCHERS, default=list(SEARCHERS))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for seed in range(options.seeds) for name in options.searchers]
    work = partial(run, options.out, sorted(options.candidates))
    with ProcessPoolExecutor(options.workers) as pool:
        for name, seed in pool.map(work, *zip(*runs, strict=True)):
            print(f"{name}, seed {seed}: done", flush=True)
    print(table(options.out, sorted(options.candidates)))


def run(out: Path, candidates: Sequence[int], name: str, seed: int) -> tuple[str, int]:
    """Search once, and keep what comes out at each budget."""
    file = out / f"{name}-{seed}.json"
    if file.exists():
        return name, seed
    setting = setting_of(space(seed))
    resident = resident_of(setup(setting))
    whole = tokens_of_a_candidate(resident, setting)
    before = time.process_time()
    returned = SEARCHERS[name](resident, setting, [whole * count for count in candidates], seed, out / f"{name}-{seed}")
    seconds = time.process_time() - before
    results: dict[int, Any] = {}
    for count, (recipe, measured) in zip(candidates, returned.values(), strict=True):
        private = measured_on(resident, recipe, setting.parts.report)
        results[count] = {"recipe": recipe, "measured": measured, "private": private.scores}
    file.write_text(json.dumps({"cpu": round(seconds, 1), "tokens": whole, "at": results}))
    return name, seed


def space(seed: int, *, highest: float = WEIGHTS, **changes: object) -> WrittenSpace:
    """Return the space that all search."""
    document = {
        "base_model": str(demo.model_folder(demo.BASE)),
        "models": [str(demo.model_folder(name)) for name in demo.expert_names()],
        "tasks": [name for name in demo.task_names() if not name.endswith("-private")],
        "search": {"method": "task_arithmetic", "weights": {"points": 3, "range": [0.0, highest]}},
        "seed": seed,
        **changes,
    }
    return parse_space(json.dumps(document), folder=Path(), where="the benchmark")


def setup(setting: Setting) -> Setup:
    models = [str(demo.model_folder(name)) for name in (demo.BASE, *demo.expert_names())]
    return Setup(tuple(models), setting.references, device="cpu")


def measured_on(resident: Resident, recipe: str, items: Mapping[str, Sequence[str]]) -> Measured:
    resident.apply(recipe)
    return resident.measure(items)


def tokens_of_a_candidate(resident: Resident, setting: Setting) -> int:
    return measured_on(resident, scaled_recipe(space(0), 0.5), setting.parts.search).tokens


Returned = Mapping[int, tuple[str, int]]
Searcher = Callable[[Resident, Setting, Sequence[int], int, Path], Returned]


def ours(
    resident: Resident, setting: Setting, budgets: Sequence[int], seed: int, out: Path, **changes: object
) -> Returned:
    """Search as `cuvee search` does. A search with a larger budget goes on from the smaller one."""
    chosen = space(seed, **changes)
    choice = CHOICE * tokens_of_a_candidate(resident, setting)
    returned = {}
    for budget in budgets:
        with Here() as here:
            report = search(chosen, out, here, folder=Path(), budget=budget_of(f"{budget - choice}tok"), device="cpu")
        returned[budget] = ((out / "best.yaml").read_text(), len(report.candidates))
    return returned


def line(resident: Resident, setting: Setting, budgets: Sequence[int], seed: int, out: Path) -> Returned:
    """Try one weight for all, on a line."""
    evaluator = Evaluator(resident, setting, budgets)
    for scale in LINE:
        evaluator.score(scaled_recipe(space(seed), scale))
    return evaluator.returned()


def evolve(resident: Resident, setting: Setting, budgets: Sequence[int], seed: int, out: Path) -> Returned:
    """Search as mergekit-evolve does."""
    import cma

    evaluator = Evaluator(resident, setting, budgets)
    arm = arms_of(space(seed, highest=UNBOUNDED))[0]
    experts = len(demo.expert_names())
    start = [1 / experts] * len(arm.dimensions)
    strategy = cma.CMAEvolutionStrategy(start, 1 / 6, {"seed": seed + 1, "verbose": -9})
    while not evaluator.exhausted:
        generation = strategy.ask()
        strategy.tell(generation, [-evaluator.score(recipe_of(arm, np.abs(weights))) for weights in generation])
    return evaluator.returned()


def genetic(resident: Resident, setting: Setting, budgets: Sequence[int], seed: int, out: Path) -> Returned:
    """Search as mergenetic does."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.termination import get_termination

    evaluator = Evaluator(resident, setting, budgets)
    arm = arms_of(space(seed, highest=UNBOUNDED))[0]
    algorithm = GA(
        pop_size=10, sampling=IntegerRandomSampling(), crossover=SBX(), mutation=PM(), eliminate_duplicates=True
    )
    problem = Problem(n_var=len(arm.dimensions), n_obj=1, xl=0, xu=10)
    algorithm.setup(problem, termination=get_termination("n_gen", 10**6), seed=seed, verbose=False)
    while not evaluator.exhausted:
        generation = algorithm.ask()
        worth = [-evaluator.score(recipe_of(arm, tenths / 10)) for tenths in generation.get("X")]
        generation.set("F", np.array(worth)[:, None])
        algorithm.tell(infills=generation)
    return evaluator.returned()


def recipe_of(arm: Arm, weights: Sequence[float]) -> str:
    names = [dimension.name for dimension in arm.dimensions]
    return arm.recipe(dict(zip(names, map(float, weights), strict=True)))


SEARCHERS: Mapping[str, Searcher] = {
    "cuvee": ours,
    "cuvee-without-racing": partial(ours, racing=False),
    "random": partial(ours, sampler="random", racing=False),
    "mergekit-evolve": evolve,
    "mergenetic": genetic,
    "lambda-line": line,
}


def table(out: Path, candidates: Sequence[int]) -> str:
    """Return the mean private scores of what each searcher returned, and how far ours is ahead of it, in Markdown."""
    lines = []
    for count in candidates:
        by_name = {name: list(private_scores(out, name, count)) for name in SEARCHERS}
        lines += [
            "",
            f"The tokens of {count} full candidates:",
            "",
            "| searcher | seeds | private | cuvee is ahead by |",
        ]
        lines.append("|---|---|---|---|")
        for name, seeds in by_name.items():
            if not seeds:
                continue
            score = np.mean([weighted_mean(scores, equal(scores)) for scores in seeds])
            ahead = "" if name == "cuvee" else shown(difference(by_name["cuvee"], seeds))
            lines.append(f"| {name} | {len(seeds)} | {100 * score:.1f} | {ahead} |")
    return "\n".join(lines)


def private_scores(out: Path, name: str, count: int) -> Iterator[Scores]:
    for file in sorted(out.glob(f"{name}-[0-9]*.json")):
        yield json.loads(file.read_text())["at"][str(count)]["private"]


def equal(scores: Scores) -> dict[str, float]:
    return dict.fromkeys(scores, 1.0)


def difference(own: Sequence[Scores], other: Sequence[Scores]) -> tuple[float, float, float]:
    """Return own minus other, macro over tasks, and 95 % of the means when seeds and items are drawn again.

    Both answered the same items, which are drawn together; the seeds of the two are drawn apart.
    """
    generator = np.random.default_rng(0)
    tasks = list(own[0])
    arrays = [{task: np.array([scores[task] for scores in side]) for task in tasks} for side in (own, other)]
    draws = np.zeros(DRAWS)
    for draw in range(DRAWS):
        rows = [generator.integers(len(side), size=len(side)) for side in (own, other)]
        for task in tasks:
            items = generator.integers(arrays[0][task].shape[1], size=arrays[0][task].shape[1])
            first, second = (array[task][row][:, items].mean() for array, row in zip(arrays, rows, strict=True))
            draws[draw] += (first - second) / len(tasks)
    observed = float(np.mean([arrays[0][task].mean() - arrays[1][task].mean() for task in tasks]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return observed, float(low), float(high)


def shown(interval: tuple[float, float, float]) -> str:
    value, low, high = (100 * number for number in interval)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    main()
