"""A search over blends of a real language model, with the numbers that a page of evidence needs.

    python examples/smollm2/evidence.py WORK

Makes the family (family.py), searches over weights along the depth, as `cuvee search` does it with the space below, and
measures on the private tasks, which nothing was chosen on: parents, the average, the best scale of task arithmetic and
the best default among the search's anchors, its winner, the multitask model, tsv_m at the bench's first scale, repairs
by 8 and 32 texts of each expert, and TIES over adapters in three spaces, for which the full fine-tunes are extracted as
adapters.

WORK/evidence.json then holds each model's score on each item. What is done already is not done again.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from data import PUBLIC_ITEMS, SKILLS, TEST_ITEMS, TRAIN_ITEMS, Skill
from family import make_family

import cuvee
from cuvee.adapters.low_rank import Wanted
from cuvee.adapters.spaces import Space
from cuvee.engine.combine import How
from cuvee.engine.extract import Extraction
from cuvee.executor import Executor, Here, Processes
from cuvee.search.journal import Candidate, Journal
from cuvee.search.resident import Setup, measured
from cuvee.search.run import search
from cuvee.search.setting import budget_of, setting_of
from cuvee.search.space import Dtype, WrittenSpace, family_space, parent_recipe, parse_space, plain_recipe
from cuvee.version import __version__

Scores = Mapping[str, Sequence[float]]
"""The score of each private item, by the skill's name."""

SPACE = """\
base_model: base
models: {models}
tasks: {tasks}
budget: 15m
search:
  method: [task_arithmetic, ties]
  weights: {{per: model, over: depth, points: 3, range: [0, 1.2]}}
evaluation_dtype: bfloat16
"""
SEARCHED = "search over weights"
PLAIN = "task_arithmetic"
TASK_ARITHMETIC = "task arithmetic "
"""How the search calls its anchors along the line of scales."""

CURVE = (8, 32)
"""Texts of each expert that a repair reads."""

ADAPTER_RANK = 16
SPACES: tuple[Space, ...] = ("dense", "knots", "core")
TIES = {"density": 0.5, "lambda": 0.8}

SINGULAR_SCALE = 1.2
"""Of tsv_m, as `cuvee bench` tries it first."""

REPAIR_SCALE = 0.5
REPAIR = {"mix": 0.3, "ridge": 3e-4}
DTYPE: Dtype = "bfloat16"


@dataclass(frozen=True)
class Blend:
    """A model to measure: its name, its kind (base, expert, multitask, blend), its settings, and its recipe."""

    name: str
    kind: str
    how: str
    recipe: str


@dataclass(frozen=True)
class Row:
    """A model of the table, with its score on each item."""

    blend: Blend
    scores: Scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with the models in memory")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    make_family(work)
    with Here() if arguments.workers == 1 else Processes(arguments.workers) as executor:
        blends = list(searched(work, executor))
    with Here() as executor:
        rows = [measured_once(work, blend, executor) for blend in (*parents(work), *blends, *others(work))]
    (work / "evidence.json").write_text(as_text(document(rows, work)), encoding="utf-8")


def experts_of(work: Path) -> list[str]:
    """Return the references of the experts, in the order of the skills."""
    base = work / "base"
    return [
        str(work / "experts" / skill.name) if skill.full else f"{base}+{work / 'experts' / skill.name}"
        for skill in SKILLS
    ]


def space_of(work: Path, texts: int | None = None) -> WrittenSpace:
    """Return the family as a space: with all the experts' texts, or with the first few of each."""
    tasks = [str(work / "tasks" / f"{skill.name}.yaml") for skill in SKILLS]
    files = [str(text_file(work, skill.name, texts)) for skill in SKILLS]
    return family_space(str(work / "base"), experts_of(work), tasks, files, DTYPE)


def text_file(work: Path, skill: str, texts: int | None) -> Path:
    whole = work / "texts" / f"{skill}.jsonl"
    if texts is None:
        return whole
    few = work / "texts" / str(texts) / f"{skill}.jsonl"
    few.parent.mkdir(exist_ok=True)
    few.write_text("".join(whole.read_text(encoding="utf-8").splitlines(keepends=True)[:texts]), encoding="utf-8")
    return few


def parents(work: Path) -> Iterator[Blend]:
    """Give the base, the experts, and the model that learned everything."""
    space = space_of(work)
    yield Blend("base", "base", "", parent_recipe(space, space.base_model))
    for skill, model in zip(SKILLS, space.models, strict=True):
        how = "full fine-tune" if skill.full else "LoRA"
        yield Blend(skill.name, "expert", how, parent_recipe(space, model.model))
    multitask = f"{work / 'base'}+{work / 'multitask'}"
    yield Blend("multitask", "multitask", "LoRA, all rows", parent_recipe(space, multitask))


def searched(work: Path, executor: Executor) -> Iterator[Blend]:
    """Search, and give the best anchor along the line of scales, the best default, the average and the winner."""
    models = [reference.replace(f"{work}/", "") for reference in experts_of(work)]
    tasks = [f"tasks/{skill.name}.yaml" for skill in SKILLS]
    text = SPACE.format(models=json.dumps(models), tasks=json.dumps(tasks))
    (work / "space.yaml").write_text(text, encoding="utf-8")
    space = parse_space(text, folder=work, where="space.yaml")
    report = search(space, work / "found", executor, folder=work, budget=budget_of(space.budget))
    assert report.choice is not None, "a search that ended has chosen"
    values = {candidate.name: candidate.value or 0.0 for candidate in report.candidates}
    line = max((name for name in values if name.startswith(TASK_ARITHMETIC)), key=lambda name: values[name])
    default = max((each.name for each in report.candidates if each.anchor == "default"), key=lambda name: values[name])
    recipes = {each.name: each.recipe for each in Journal(work / "found").events() if isinstance(each, Candidate)}
    yield Blend("average", "blend", "", recipes["average"])
    yield Blend(PLAIN, "blend", f"lambda {line.removeprefix(TASK_ARITHMETIC)}", recipes[line])
    yield Blend(default.partition(" ")[0], "blend", "its defaults", recipes[default])
    yield Blend(SEARCHED, "blend", report.choice.winner, recipes[report.choice.winner])


def others(work: Path) -> Iterator[Blend]:
    """Give a method by singular values, repairs by few texts, and the experts combined as adapters in each space."""
    tsv_m = plain_recipe(space_of(work), "tsv_m", {"lambda": SINGULAR_SCALE})
    yield Blend("tsv_m", "blend", f"lambda {SINGULAR_SCALE}", tsv_m)
    for texts in CURVE:
        few = space_of(work, texts)
        recipe = plain_recipe(few, "task_arithmetic", {"lambda": REPAIR_SCALE}, align=REPAIR)
        yield Blend(f"aligned by {texts} texts of each", "blend", f"lambda {REPAIR_SCALE}", recipe)
    adapters = [str(adapter_of(work, skill)) for skill in SKILLS]
    for space in SPACES:
        combined = work / "combined" / space
        if not combined.exists():
            how = How("ties", space, Wanted(ADAPTER_RANK), TIES)
            cuvee.combine_adapters(adapters, [1.0] * len(adapters), combined, how, base=work / "base")
        recipe = parent_recipe(space_of(work), f"{work / 'base'}+{combined}")
        yield Blend(f"ties of adapters, {space} space", "blend", f"rank {ADAPTER_RANK}", recipe)


def adapter_of(work: Path, skill: Skill) -> Path:
    """Return an expert as an adapter; a full fine-tune's is extracted."""
    expert = work / "experts" / skill.name
    if not skill.full:
        return expert
    extracted = work / "extracted" / skill.name
    if not extracted.exists():
        cuvee.extract_adapter(expert, work / "base", extracted, Extraction(Wanted(ADAPTER_RANK)))
    return extracted


def measured_once(work: Path, blend: Blend, executor: Executor) -> Row:
    """Score a recipe on all private items, unless WORK/measured has its scores."""
    file = work / "measured" / f"{blend.name.replace(' ', '-')}.json"
    if not file.exists():
        setting = setting_of(space_of(work))
        models = (str(work / "base"), *experts_of(work))
        setup = Setup(models, setting.references, dtype=DTYPE)
        executor.submit(0, measured, setup, blend.recipe, setting.parts.report)
        done = executor.next_done()
        if done.failure:
            raise SystemExit(f"{blend.name}: {done.failure}")
        file.parent.mkdir(exist_ok=True)
        scores = {task.removesuffix("-private"): values for task, values in done.value.scores.items()}
        file.write_text(json.dumps(scores), encoding="utf-8")
        print(f"measured {blend.name}", file=sys.stderr, flush=True)
    return Row(blend, json.loads(file.read_text(encoding="utf-8")))


def document(rows: list[Row], work: Path) -> dict[str, Any]:
    return {
        "cuvee": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.processor() or platform.machine(),
        "items": {"test": TEST_ITEMS, "public": PUBLIC_ITEMS, "train": TRAIN_ITEMS},
        "skills": {skill.name: {"metric": skill.metric, "full": skill.full} for skill in SKILLS},
        "training_seconds": json.loads((work / "figures.json").read_text(encoding="utf-8")),
        "rows": [
            {"name": row.blend.name, "kind": row.blend.kind, "how": row.blend.how, "scores": rounded(row.scores)}
            for row in rows
        ],
    }


def as_text(content: dict[str, Any]) -> str:
    """Return JSON with a line for each row, so that a change of one is seen as such."""
    head = {key: value for key, value in content.items() if key != "rows"}
    rows = ",\n".join(json.dumps(row) for row in content["rows"])
    return f'{json.dumps(head, indent=1)[:-2]},\n "rows": [\n{rows}\n]}}\n'


def rounded(scores: Scores) -> Scores:
    return {skill: [round(score, 4) for score in listed] for skill, listed in scores.items()}


if __name__ == "__main__":
    main()
