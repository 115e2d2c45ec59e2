"""Compare methods on one family: settings chosen on a development part, reported on a test part.

    python benchmarks/which_method.py OUT [--page docs/explanation/which-method.md] [--methods iso_c wudi]

Every method that merges any number of models is tried with each of a few settings on the bundled family (or, with
`--base`, `--experts` and `--tasks`, on another one: every task NAME needs a NAME-private). What scores best on the
development part is scored on the test part, with 95 % intervals and the paired difference from plain task arithmetic.
OUT keeps the scores as they come: a second run goes on where the first was stopped, and runs of different `--methods`
may go on side by side. With `--page` the tables in that page are written anew, or those of the `--methods` alone.

On the bundled family, which comes with texts, repairs by `cuvee align` are tried too, and their learning curve: fewer
texts, and texts that mislead.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import cuvee
from cuvee import demo
from cuvee.calibrate.repair import align
from cuvee.calibrate.settings import alignment
from cuvee.catalogue import registry
from cuvee.engine import merge
from cuvee.evaluation import Task, evaluate, load_model, load_task
from cuvee.evaluation.statistics import Estimate, average, average_difference
from cuvee.method import Method

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
RIVAL = "tsv_m"
"""The best method without data: what repairs by text are held against."""

REPAIRED = f"{PLAIN} + align"
START, END = "<!-- written by benchmarks/which_method.py -->", "<!-- end -->"


CURVE_START, CURVE_END = "<!-- texts, written by benchmarks/which_method.py -->", "<!-- end of texts -->"

TEXTS = {
    "own": "own text",
    "no answers": "own text without its answers",
    "pooled": "one text of all skills for every expert",
    "wrong": "the text of the next expert",
}
"""What experts are given to read."""

ALL_TEXTS = 128
CURVE = (("own", 8), ("own", 32), ("own", 128), ("no answers", 128), ("pooled", 128), ("wrong", 128))

Items = dict[str, list[float]]
Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Family:
    """Where the models are, and the tasks of both parts."""

    base: str
    experts: tuple[str, ...]
    development: list[Task]
    test: list[Task]


@dataclass(frozen=True)
class Repair:
    """How a merge is aligned: a preset with settings, which text every expert reads, and how many documents of it."""

    preset: str
    settings: Settings
    text: str = "own"
    documents: int = ALL_TEXTS


@dataclass(frozen=True)
class Candidate:
    """One recipe: what it is called in the table, its method with settings, a modifier, a repair."""

    name: str
    method: str
    settings: Settings
    post: str = ""
    repair: Repair | None = None

    def key(self, family: Family) -> str:
        """Name it among scores."""
        return self.recipe(family) + (f"# {self.repair}\n" if self.repair else "")

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
    rows = given.methods or sorted({candidate.name for candidate in candidates(family)})
    scores = Scores(given.out, "-".join(given.methods or ["all"]), family)
    chosen = []
    for name in rows:
        tried = [candidate for candidate in candidates(family) if candidate.name == name]
        chosen.append(max(tried, key=lambda candidate: macro(scores.of_recipe(candidate, "development")).value))
        scores.of_recipe(chosen[-1], "test")
        print(name, shown(chosen[-1]), flush=True)
    page = Page(given.page)
    others = page.choices(family) if given.methods else []
    rest = [candidate for candidate in others if candidate.name not in rows]
    table = methods_table(scores, chosen, chosen + rest, page.rows if given.methods else {})
    page.write(START, END, f"{table}\n\n{parents_table(scores)}" if not given.methods else table + page.parents)
    if REPAIRED in rows:
        page.write(CURVE_START, CURVE_END, curve_table(scores, chosen + rest))


def family_of(base: str | None, experts: Sequence[str], tasks: Sequence[str]) -> Family:
    if base is None:
        names = demo.task_names()
        tasks = [name for name in names if not name.endswith("-private")]
        base, experts = str(demo.model_folder(demo.BASE)), [str(demo.model_folder(n)) for n in demo.expert_names()]
    return Family(base, tuple(experts), [load_task(t) for t in tasks], [load_task(f"{t}-private") for t in tasks])


def candidates(family: Family) -> Iterator[Candidate]:
    """Give every recipe that is tried."""
    for method in registry().values():
        if method.models[1] is None and method.key not in LEFT_OUT and not method.inputs:
            yield from (Candidate(method.key, method.key, settings) for settings in grid(method))
    for name, (key, post) in MODIFIED.items():
        yield from (Candidate(name, key, settings, post) for settings in grid(registry()[key]))
    if family.base == str(demo.model_folder(demo.BASE)):
        yield from repairs()


def repairs() -> Iterator[Candidate]:
    """Give the repairs by text that are tried: of task arithmetic, and RegMean++ from the average."""
    anchor = (("weight", 1.0), ("lambda", 0.5))
    for mix in (0.3, 0.5):
        yield Candidate(REPAIRED, PLAIN, anchor, repair=Repair("align", (("mix", mix), ("ridge", 3e-4))))
    for off_diagonal in (0.9, 1.0):
        settings = (("off_diagonal", off_diagonal),)
        yield Candidate("linear + regmean_pp", "linear", (("weight", 1.0),), repair=Repair("regmean_pp", settings))


def grid(method: Method) -> Iterator[tuple[tuple[str, Any], ...]]:
    """Give the settings of a method that are tried: its scale, and how much it keeps."""
    axes = {name: values for name, values in GRIDS.items() if name in method.settings}
    if method.base != "member" and "lambda" in method.settings:
        axes["lambda"] = FEWER_LAMBDAS if axes else LAMBDAS
    fixed = (("weight", 1.0),) if "weight" in method.settings and method.settings["weight"].required else ()
    for values in product(*axes.values()):
        yield (*fixed, *zip(axes, values, strict=True))


def shown(candidate: Candidate) -> str:
    settings = candidate.repair.settings if candidate.repair else candidate.settings
    return ", ".join(f"{name} {value:g}" for name, value in settings if name != "weight")


def texts(repair: Repair, family: Family, folder: Path) -> dict[str, str]:
    """Write what each expert reads; return the files by expert."""
    rows = {expert: demo.text_file(Path(expert).name).read_text().splitlines() for expert in family.experts}
    pooled = [row for together in zip(*rows.values(), strict=True) for row in together]
    files = {}
    for number, expert in enumerate(family.experts):
        own = rows[expert]
        if repair.text == "pooled":
            own = pooled
        elif repair.text == "wrong":
            own = rows[family.experts[(number + 1) % len(family.experts)]]
        elif repair.text == "no answers":
            own = [json.dumps({"text": json.loads(row)["input"]}) for row in own]
        file = folder / f"{Path(expert).name}.jsonl"
        file.write_text("\n".join(own[: repair.documents]) + "\n")
        files[expert] = str(file)
    return files


class Scores:
    """Each item's score by task, for recipes and models, kept in files of a folder. State: what is known so far."""

    def __init__(self, folder: Path, name: str, family: Family) -> None:
        self.folder, self.file, self.family = folder, folder / f"{name}.json", family
        self.known: dict[str, Items] = {}
        for file in sorted(folder.glob("*.json")):
            self.known |= json.loads(file.read_text())
        self.own: dict[str, Items] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def of_recipe(self, candidate: Candidate, part: str) -> Items:
        key = f"{part}: {candidate.key(self.family)}"
        if key not in self.known:
            with tempfile.TemporaryDirectory() as folder:
                self._score(key, self._merged(candidate, Path(folder)), part)
        return self.known[key]

    def _merged(self, candidate: Candidate, folder: Path) -> Path:
        model = merge(cuvee.recipe_from_text(candidate.recipe(self.family)), folder / "model").folder
        repair = candidate.repair
        if repair is None:
            return model
        how = alignment(repair.preset, **dict(repair.settings))
        align(str(model), folder / "aligned", texts(repair, self.family, folder), how)
        return folder / "aligned"

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


class Page:
    """The page whose tables are written; without a file they are only printed."""

    def __init__(self, file: Path | None) -> None:
        self.file = file

    @property
    def _tables(self) -> str:
        text = self.file.read_text(encoding="utf-8") if self.file else ""
        return text.partition(START)[2].partition(END)[0]

    @property
    def rows(self) -> dict[str, str]:
        """The rows of the methods' table that the page has, by name."""
        lines = self._tables.strip().partition("\n\n")[0].splitlines()[2:]
        return {line.split(" | ")[0].removeprefix("| "): line for line in lines}

    @property
    def parents(self) -> str:
        """The parents' table that the page has."""
        return "\n\n" + self._tables.strip().partition("\n\n")[2]

    def choices(self, family: Family) -> list[Candidate]:
        """Return the candidates that the page says were chosen."""
        settings = {name: line.split(" | ")[1] for name, line in self.rows.items()}
        return [c for c in candidates(family) if settings.get(c.name) == (shown(c) or "-")]

    def write(self, start: str, end: str, text: str) -> None:
        """Print a text and write it between two marks."""
        print(text)
        if self.file is None:
            return
        page = self.file.read_text(encoding="utf-8")
        before, after = page.split(start)[0], page.split(end)[1]
        self.file.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def methods_table(
    scores: Scores, chosen: Sequence[Candidate], comparable: Sequence[Candidate], rows: Mapping[str, str]
) -> str:
    """Return the table of methods, best first: those just chosen, and the rows that stay."""
    plain = test_of(PLAIN, scores, comparable)
    lines = dict(rows)
    for candidate in chosen:
        items = scores.of_recipe(candidate, "test")
        test, before = macro(items), macro(scores.of_recipe(candidate, "development"))
        lines[candidate.name] = (
            f"| {candidate.name} | {shown(candidate) or '-'} | {before.value:.1%} | {test.value:.1%} | "
            f"{test.low:.1%} to {test.high:.1%} | {against(items, plain)} |"
        )
    head = [
        "| method | chosen on the development part | development | test | 95 % interval | against task arithmetic |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *sorted(lines.values(), key=tested, reverse=True)])


def tested(line: str) -> float:
    """Return the test score of a row."""
    return float(line.split(" | ")[3].rstrip("%"))


def parents_table(scores: Scores) -> str:
    folders = (scores.family.base, *scores.family.experts)
    rows = [f"| {Path(folder).name} | {macro(scores.of_model(folder)).value:.1%} |" for folder in folders]
    return "\n".join(["| parent | test |", "|---|---|", *rows])


def curve_table(scores: Scores, comparable: Sequence[Candidate]) -> str:
    """Return what becomes of the chosen repair with other texts."""
    best = next(candidate for candidate in comparable if candidate.name == REPAIRED)
    assert best.repair is not None
    whole, rival = scores.of_recipe(best, "test"), test_of(RIVAL, scores, comparable)
    lines = [
        f"| each expert reads | documents | test | 95 % interval | against {RIVAL} | against 128 of its own |",
        "|---|---|---|---|---|---|",
    ]
    for text, documents in CURVE:
        repair = replace(best.repair, text=text, documents=documents)
        items = scores.of_recipe(replace(best, repair=repair), "test")
        test = macro(items)
        lines.append(
            f"| {TEXTS[text]} | {documents} | {test.value:.1%} | {test.low:.1%} to {test.high:.1%} | "
            f"{against(items, rival)} | {against(items, whole)} |"
        )
    return "\n".join(lines)


def test_of(name: str, scores: Scores, comparable: Sequence[Candidate]) -> Items | None:
    """Return the test scores of a method with its chosen settings, if it has some."""
    candidate = next((candidate for candidate in comparable if candidate.name == name), None)
    return scores.of_recipe(candidate, "test") if candidate else None


def against(items: Items, plain: Items | None) -> str:
    if plain is None or items is plain:
        return "-"
    pairs = [(scores, plain[task]) for task, scores in items.items()]
    gap = average_difference(pairs, [1.0] * len(pairs))
    noise = " (noise)" if gap.low <= 0 <= gap.high else ""
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]{noise}"


if __name__ == "__main__":
    main()
