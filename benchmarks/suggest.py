"""Measure merges of small families for `cuvee suggest`, and fit its rules from what was measured.

    python benchmarks/suggest.py measure NAME [--models FOLDER] [--items 80]
    python benchmarks/suggest.py fit

`measure` merges pairs, triples, fours and all of a family's experts, by each method over a line of scales, and scores
every blend on the tasks of its experts. It adds the blends to `src/cuvee/suggest/blends.csv`, and what one pass over
the weights and the experts' texts tells of the family to `families.json` beside it. FOLDER holds `base` and a model for
each skill; without it the bundled family is measured. `models/train.py` trains others. A stopped run goes on where it
was.

`fit` writes `rules.json` there: the coefficients of each rule, its error on families that it was not fitted on, and
whether it predicts better than the mean does. It also writes the tables of the page that documents them.
"""

import argparse
import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before torch counts the processors

from cuvee import demo
from cuvee.comparison import compare
from cuvee.search.resident import Resident, Setup
from cuvee.suggest import Changes, suggest
from cuvee.suggest.measured import BLENDS, FAMILIES, PARENT, measured_cases, read_families
from cuvee.suggest.rules import CONSTANT, Rule, all_rules, fit_all, write_rules

LINE = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
LINES = {
    "task_arithmetic": LINE,
    "task_arithmetic, normalised": LINE,
    "ties": (0.5, 0.7, 1.0, 1.4),
    "tsv_m": (0.6, 0.85, 1.2, 1.7),
}
"""The scales of each method that are tried."""

UNEVEN = 1.25
"""Task vectors are normalised where the longest of a group is so many times as long as the shortest."""

SIZES = (2, 3, 4, 5)
MOST_GROUPS = (7, 4, 1, 1)
"""How many groups of each size are measured where nothing else is asked for: of all there are, evenly apart."""

FIELDS = ("family", "experts", "method", "scale", "scores")
DIGITS = 6
PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "ask-how-to-merge.md"
START, END = "<!-- written by benchmarks/suggest.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Blend:
    """A merge that is measured. Experts are by name."""

    experts: tuple[str, ...]
    method: str
    scale: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    measuring = actions.add_parser("measure")
    measuring.add_argument("name", help="of the family, in the tables")
    measuring.add_argument("--models", type=Path, default=demo.model_folder("base").parent)
    measuring.add_argument("--items", type=int, default=60, help="of each task")
    numbers = {"type": int, "nargs": len(SIZES), "default": MOST_GROUPS}
    measuring.add_argument("--groups", **numbers, help="of two, three, four and five experts")
    actions.add_parser("fit")
    options = parser.parse_args()
    if options.action == "measure":
        measure_blends(options.name, options.models, options.items, options.groups)
        describe(options.name, options.models)
    else:
        fit()


def describe(family: str, models: Path) -> None:
    """Note what one pass over a family's weights and texts tells."""
    names = demo.expert_names()
    folders = [str(models / name) for name in (demo.BASE, *names)]
    texts = [str(demo.text_file(name)) for name in names]
    suggestion = suggest(folders, texts=texts, device="cpu")
    families = read_families() if FAMILIES.exists() else {}
    families[family] = replace(suggestion.survey.changes, models=tuple(names))
    write_families(families)


def fit() -> None:
    """Fit all rules, and write them and the page's table of them."""
    rules = fit_all(measured_cases())
    write_rules(rules)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{START}\n\n{rules_table(all_rules())}\n\n{END}{after}", encoding="utf-8")


def measure_blends(family: str, models: Path, most: int, numbers: Sequence[int]) -> None:
    """Measure the blends of a family that the table lacks, and the models themselves."""
    names = demo.expert_names()
    setup = Setup(tuple(str(models / name) for name in (demo.BASE, *names)), tuple(names), device="cpu")
    tasks = setup.loaded_tasks()
    items = {task.name: [sample.id for sample in task.samples][:most] for task in tasks}
    resident = Resident(setup.models, tasks, device="cpu")
    measured = already_measured(family, BLENDS)
    norms = expert_norms(models, names)
    for blend in (*parents(names), *blends(names, norms, numbers)):
        if blend in measured:
            continue
        asked = names if not blend.scale else list(blend.experts)
        resident.apply(recipe(blend, models, norms))
        scores = resident.measure({name: items[name] for name in asked}).scores
        shares = [sum(scores[name]) / len(scores[name]) for name in asked]
        add_row(BLENDS, (family, " ".join(blend.experts), blend.method, f"{blend.scale:g}", numbers_text(shares)))


def parents(names: Sequence[str]) -> Iterator[Blend]:
    """Give the base and each expert, which are measured on all tasks."""
    yield Blend((), PARENT, 0.0)
    for name in names:
        yield Blend((name,), PARENT, 0.0)


def groups_of(names: Sequence[str], numbers: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Give the groups of experts that are merged, the largest first; `numbers` is how many of each size."""
    for size, most in reversed(list(zip(SIZES, numbers, strict=True))):
        groups = list(combinations(names, size))
        for place in range(min(most, len(groups))):
            yield groups[place * len(groups) // min(most, len(groups))]


def blends(names: Sequence[str], norms: dict[str, float], numbers: Sequence[int]) -> Iterator[Blend]:
    for experts in groups_of(names, numbers):
        lengths = [norms[name] for name in experts]
        for method, scales in LINES.items():
            if "normalised" in method and max(lengths) < UNEVEN * min(lengths):
                continue
            for scale in scales:
                yield Blend(experts, method, scale)


def recipe(blend: Blend, models: Path, norms: dict[str, float]) -> str:
    """Return a blend's recipe. Normalised, every task vector is as long as their mean."""
    base = models / demo.BASE
    if blend.method == PARENT:
        own = models / (blend.experts[0] if blend.experts else demo.BASE)
        return f"merge_method: linear\nmodels:\n- model: {own}\n  parameters: {{weight: 1.0}}\ndtype: bfloat16\n"
    method, _, normalised = blend.method.partition(", ")
    mean = sum(norms[name] for name in blend.experts) / len(blend.experts)
    lines = [f"merge_method: {method}", f"base_model: {base}", "models:"]
    for name in blend.experts:
        weight = mean / norms[name] if normalised else 1.0
        lines.append(f"- model: {models / name}")
        if method != "tsv_m":
            lines.append(f"  parameters: {{weight: {weight:.6f}}}")
    density = ", density: 0.5" if method == "ties" else ""
    lines.append(f"parameters: {{lambda: {blend.scale:g}{density}}}")
    return "\n".join([*lines, "dtype: bfloat16", ""])


def expert_norms(models: Path, names: Sequence[str]) -> dict[str, float]:
    compared = compare([models / name for name in (demo.BASE, *names)])
    return {name: figures.norm for name, figures in zip(names, compared.total.models, strict=True)}


def already_measured(family: str, out: Path) -> set[Blend]:
    if not out.exists():
        return set()
    with out.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["family"] == family]
    return {Blend(tuple(row["experts"].split()), row["method"], float(row["scale"])) for row in rows}


def add_row(out: Path, row: Sequence[str]) -> None:
    new = not out.exists()
    with out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(FIELDS)
        writer.writerow(row)


def numbers_text(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)


def write_families(families: Mapping[str, Changes]) -> None:
    """Write what is known of each family, in digits that tell."""
    lines = []
    for name, changes in families.items():
        entry = {field: _rounded(value) for field, value in asdict(changes).items()}
        lines.append(f" {json.dumps(name)}: {json.dumps(entry)}")
    FAMILIES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, tuple):
        return [_rounded(entry) for entry in value]
    return value


def rules_table(rules: Sequence[Rule]) -> str:
    """Return every form of every question, with its errors; a form that predicts is marked."""
    lines = [
        "| question | predicted from | error on families left out | of saying the mean | |",
        "|---|---|---|---|---|",
    ]
    for rule in rules:
        form = ", ".join(name for name in rule.coefficients if name != CONSTANT)
        error, rival = rule.error, rule.rival_error
        numbers = f"{100 * error:.1f} points | {100 * rival:.1f} points"
        if rule.question.startswith("scale"):
            numbers = f"factor {math.exp(error):.2f} | factor {math.exp(rival):.2f}"
        lines.append(f"| {rule.question} | {form} | {numbers} | {'predicts' if rule.predicts else ''} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
