"""Compare all data-free methods on one family: settings chosen on a development part, reported on a test part.

    python benchmarks/which_method.py OUT [--page docs/explanation/which-method.md] [--methods iso_c wudi]

Every method that merges any number of models is tried with each of a few settings on the bundled family (or, with
`--base`, `--experts` and `--tasks`, on another one: every task NAME needs a NAME-private). What scores best on the
development part is scored on the test part, with 95 % intervals and the paired difference from plain task arithmetic.
OUT keeps the scores as they come: a second run goes on where the first was stopped, and runs of different `--methods`
may go on side by side. With `--page` the tables in that page are written anew.
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
from cuvee.evaluate import Task, evaluate, load_model, load_task
from cuvee.evaluate.statistics import Estimate, average, average_difference
from cuvee.method import Method, registry

LAMBDAS, FEWER_LAMBDAS = (0.3, 0.5, 0.8, 1.2, 2.0), (0.3, 0.5, 0.8)
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


Items = dict[str, list[float]]


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
    rows = given.methods or sorted({candidate.name for candidate in candidates()})
    scores = Scores(given.out, "-".join(given.methods or ["all"]), family)
    chosen = []
    for name in rows:
        tried = [candidate for candidate in candidates() if candidate.name == name]
        chosen.append(max(tried, key=lambda candidate: macro(scores.of_recipe(candidate, "development")).value))
        scores.of_recipe(chosen[-1], "test")
        print(name, shown(chosen[-1]), flush=True)
    text = "\n\n".join(tables(scores, chosen))
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
        axes["lambda"] = FEWER_LAMBDAS if axes else LAMBDAS
    fixed = (("weight", 1.0),) if "weight" in method.settings and method.settings["weight"].required else ()
    for values in product(*axes.values()):
        yield (*fixed, *zip(axes, values, strict=True))


def shown(candidate: Candidate) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in candidate.settings if name != "weight")


class Scores:
    """Each item's score by task, for recipes and models, kept in files of a folder. State: what is known so far."""

    def __init__(self, folder: Path, name: str, family: Family) -> None:
        self.folder, self.file, self.family = folder, folder / f"{name}.json", family
        self.known: dict[str, Items] = {}
        for file in sorted(folder.glob("*.json")):
            self.known |= json.loads(file.read_text())
        self.own: dict[str, Items] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def of_recipe(self, candidate: Candidate, part: str) -> Items:
        recipe = candidate.recipe(self.family)
        if f"{part}: {recipe}" not in self.known:
            with tempfile.TemporaryDirectory() as folder:
                merge(cuvee.recipe_from_text(recipe), Path(folder) / "model")
                self._score(f"{part}: {recipe}", Path(folder) / "model", part)
        return self.known[f"{part}: {recipe}"]

    def of_model(self, folder: str) -> Items:
        if f"test: {folder}" not in self.known:
            self._score(f"test: {folder}", Path(folder), "test")
        return self.known[f"test: {folder}"]

    def _score(self, key: str, model: Path, part: str) -> None:
        report = evaluate(load_model(model), self.family.development if part == "development" else self.family.test)
        self.known[key] = {
            task.task: [item.score for item in task.items if item.score is not None] for task in report.tasks
        }
        self.own[key] = self.known[key]
        self.file.write_text(json.dumps(self.own))


def macro(items: Items) -> Estimate:
    """Return the average over the tasks with its interval."""
    return average([*items.values()], [1.0] * len(items))


def tables(scores: Scores, chosen: Sequence[Candidate]) -> Iterator[str]:
    """Give the tables of the page: the methods, best first, and the parents."""
    found = [(candidate, scores.of_recipe(candidate, "test")) for candidate in chosen]
    plain = next((items for candidate, items in found if candidate.name == PLAIN), None)
    lines = [
        "| method | chosen on the development part | development | test | 95 % interval | against task arithmetic |",
        "|---|---|---|---|---|---|",
    ]
    for candidate, items in sorted(found, key=lambda pair: -macro(pair[1]).value):
        test, before = macro(items), macro(scores.of_recipe(candidate, "development"))
        lines.append(
            f"| {candidate.name} | {shown(candidate) or '-'} | {before.value:.1%} | {test.value:.1%} | "
            f"{test.low:.1%} to {test.high:.1%} | {against(items, plain)} |"
        )
    yield "\n".join(lines)
    folders = (scores.family.base, *scores.family.experts)
    rows = [f"| {Path(folder).name} | {macro(scores.of_model(folder)).value:.1%} |" for folder in folders]
    yield "\n".join(["| parent | test |", "|---|---|", *rows])


def against(items: Items, plain: Items | None) -> str:
    if plain is None or items is plain:
        return "-"
    pairs = [(scores, plain[task]) for task, scores in items.items()]
    gap = average_difference(pairs, [1.0] * len(pairs))
    noise = " (noise)" if gap.low <= 0 <= gap.high else ""
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]{noise}"


if __name__ == "__main__":
    main()
