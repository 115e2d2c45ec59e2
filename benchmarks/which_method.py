"""Compare all data-free methods on one family: settings chosen on a development part, reported on a test part.

    python benchmarks/which_method.py OUT [--page docs/explanation/which-method.md] [--methods iso_c wudi]

Every method that merges any number of models is tried with each of a few settings on the bundled family (or, with
`--base`, `--experts` and `--tasks`, on another one: every task NAME needs a NAME-private). What scores best on the
development part is scored on the test part, with 95 % intervals and the paired difference from plain task arithmetic.
OUT keeps the scores as they come: a second run goes on where the first was stopped. With `--page` the tables in that
page are written anew.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cuvee
from cuvee import demo
from cuvee.engine import merge
from cuvee.evaluate import Report, Task, evaluate, load_model, load_task
from cuvee.evaluate.statistics import paired_difference
from cuvee.method import Method, registry

LAMBDAS = (0.3, 0.5, 0.8, 1.2, 2.0)
GRIDS: Mapping[str, Sequence[Any]] = {"density": (0.2, 0.5), "select_topk": (0.2, 1.0)}
MODIFIED = {
    "task_arithmetic + subspace_boost": ("task_arithmetic", "subspace_boost"),
    "task_arithmetic + svc": ("task_arithmetic", "svc"),
    "ties + svc": ("ties", "svc"),
    "wudi + svc": ("wudi", "svc: {alpha: 1.0}"),
}
LEFT_OUT = {"passthrough": "merges nothing", "wudi_gd": "wudi says what it aims at", "emr": "its masks are not used"}
PLAIN = "task_arithmetic"
START, END = "<!-- written by benchmarks/which_method.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Family:
    """Where the models are, and the tasks of both parts."""

    base: str
    experts: tuple[str, ...]
    development: list[Task]
    test: list[Task]


@dataclass(frozen=True)
class Candidate:
    """One recipe: what it is called in the table, its method with settings, a modifier."""

    name: str
    method: str
    settings: tuple[tuple[str, Any], ...]
    post: str = ""

    def recipe(self, family: Family) -> str:
        base = "" if registry()[self.method].base == "member" else f"base_model: {family.base}\n"
        models = "".join(f"  - model: {expert}\n" for expert in family.experts)
        settings = "".join(f"  {name}: {value}\n" for name, value in self.settings)
        post = f"post:\n  - {self.post}\n" if self.post else ""
        parameters = f"parameters:\n{settings}" if settings else ""
        return f"merge_method: {self.method}\n{base}models:\n{models}{parameters}{post}dtype: bfloat16\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the scores")
    parser.add_argument("--page", type=Path, help="Markdown page whose tables are to be written")
    parser.add_argument("--methods", nargs="*", help="only these rows")
    parser.add_argument("--base", help="folder of another family's base model")
    parser.add_argument("--experts", nargs="*", default=[], help="folders of its experts")
    parser.add_argument("--tasks", nargs="*", default=[], help="its tasks, of which each has a NAME-private beside it")
    given = parser.parse_args()
    family = family_of(given.base, given.experts, given.tasks)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = {candidate.name for candidate in candidates()}
    scores = Scores(given.out / "scores.json", family)
    parents = scores.parents()
    for name in sorted(given.methods or rows):
        best = max((c for c in candidates() if c.name == name), key=scores.development)
        scores.test(best)
        print(f"{name}: {shown(best)} {scores.development(best):.3f}", flush=True)
    text = "\n\n".join(tables(scores, parents))
    print(text)
    if given.page:
        page = given.page.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        given.page.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def family_of(base: str | None, experts: Sequence[str], tasks: Sequence[str]) -> Family:
    if base is None:
        names = demo.task_names()
        tasks = [name for name in names if not name.endswith("-private")]
        base, experts = str(demo.model_folder(demo.BASE)), [str(demo.model_folder(n)) for n in demo.expert_names()]
    return Family(base, tuple(experts), [load_task(t) for t in tasks], [load_task(f"{t}-private") for t in tasks])


def candidates() -> Iterator[Candidate]:
    """Give every recipe that is tried."""
    for method in registry().values():
        if method.models[1] is None and method.key not in LEFT_OUT:
            yield from (Candidate(method.key, method.key, settings) for settings in grid(method))
    for name, (key, post) in MODIFIED.items():
        yield from (Candidate(name, key, settings, post) for settings in grid(registry()[key]))


def grid(method: Method) -> Iterator[tuple[tuple[str, Any], ...]]:
    """Give the settings of a method that are tried: its scale, and how much it keeps."""
    axes = {name: values for name, values in GRIDS.items() if name in method.settings}
    if method.base != "member" and "lambda" in method.settings:
        axes["lambda"] = LAMBDAS
    fixed = (("weight", 1.0),) if "weight" in method.settings and method.settings["weight"].required else ()
    for values in product(*axes.values()):
        yield (*fixed, *zip(axes, values, strict=True))


def shown(candidate: Candidate) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in candidate.settings if name != "weight")


class Scores:
    """Scores by recipe, kept in a file. State: what was scored so far, and the test reports of this run."""

    def __init__(self, file: Path, family: Family) -> None:
        self.file, self.family = file, family
        self.known: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
        self.reports: dict[str, tuple[Candidate, Report]] = {}

    def development(self, candidate: Candidate) -> float:
        recipe = candidate.recipe(self.family)
        if recipe not in self.known:
            self.known[recipe] = _macro(self._scored(recipe, self.family.development))
            self.file.write_text(json.dumps(self.known, indent=1))
        return self.known[recipe]

    def test(self, candidate: Candidate) -> None:
        report = self._scored(candidate.recipe(self.family), self.family.test)
        self.reports[candidate.name] = candidate, report

    def parents(self) -> dict[str, Report]:
        folders = (self.family.base, *self.family.experts)
        return {Path(folder).name: evaluate(load_model(Path(folder)), self.family.test) for folder in folders}

    def _scored(self, recipe: str, tasks: list[Task]) -> Report:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model"
            merge(cuvee.recipe_from_text(recipe), out)
            return evaluate(load_model(out), tasks)


def _macro(report: Report) -> float:
    assert report.macro is not None, "every task here is scored"
    return report.macro.value


def tables(scores: Scores, parents: Mapping[str, Report]) -> Iterator[str]:
    """Give the tables of the page: the methods, best first, and the parents."""
    plain = scores.reports.get(PLAIN)
    lines = [
        "| method | chosen on the development part | development | test | 95 % interval | against task arithmetic |",
        "|---|---|---|---|---|---|",
    ]
    ranked = sorted(scores.reports.values(), key=lambda pair: -_macro(pair[1]))
    for candidate, report in ranked:
        assert report.macro is not None, "every task here is scored"
        low, high = report.macro.low, report.macro.high
        lines.append(
            f"| {candidate.name} | {shown(candidate) or '-'} | {scores.development(candidate):.1%} | "
            f"{report.macro.value:.1%} | {low:.1%} to {high:.1%} | {against(report, plain[1]) if plain else '-'} |"
        )
    yield "\n".join(lines)
    rows = [f"| {name} | {_macro(report):.1%} |" for name, report in parents.items()]
    yield "\n".join(["| parent | test |", "|---|---|", *rows])


def against(report: Report, plain: Report) -> str:
    gap = paired_difference(report, plain).macro
    if report is plain:
        return "-"
    noise = " (noise)" if gap.low <= 0 <= gap.high else ""
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]{noise}"


if __name__ == "__main__":
    main()
