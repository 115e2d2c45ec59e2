"""A search over blends of a real language model, with the numbers that a page of evidence needs.

    python examples/smollm2/evidence.py WORK

Makes the family (family.py), searches over weights along the depth, as `cuvee search` does it with the space below, and
measures on the private tasks, which nothing was chosen on: parents, the average, the best scale of task arithmetic and
the best default among the search's anchors, its winner, the multitask model, repairs by few texts of each expert, TIES
over adapters in three spaces, for which the full fine-tunes are extracted as adapters, methods at the best of a few
scales, and a mixture of experts. Each is also asked what no expert was trained for (forgotten.py).

WORK/evidence.json then holds each model's score on each item; it grows row by row. What is done already is not done
again. It says, too, how many processor seconds each step took and how much memory was in use at most (costs.py). With
--again every blend is merged and measured a second time, and compared with the first.
"""

import argparse
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
import yaml
from costs import counted, read_costs
from data import PUBLIC_ITEMS, SKILLS, TEST_ITEMS, TRAIN_ITEMS, Skill
from family import make_family, make_once
from forgotten import Remembered, remembered, tokens_of_texts, write_tasks

import cuvee
from cuvee.adapters.low_rank import Wanted
from cuvee.adapters.spaces import Space
from cuvee.api import stages_from_text
from cuvee.documents.whole import write_whole
from cuvee.engine.combine import How
from cuvee.engine.extract import Extraction
from cuvee.executor import Executor, Here, Processes
from cuvee.hub import Hub
from cuvee.plan.resolve import find_model
from cuvee.progress import Silent
from cuvee.search.journal import Candidate, Journal
from cuvee.search.resident import Setup, resident_of
from cuvee.search.run import search
from cuvee.search.setting import budget_of, setting_of
from cuvee.search.space import Dtype, WrittenSpace, family_space, parent_recipe, parse_space, plain_recipe
from cuvee.upcycle import read_upcycling, upcycle
from cuvee.version import __version__

Scores = Mapping[str, Sequence[float]]
"""The score of each private item, by the skill's name."""

SPACE = """\
base_model: base
models: {models}
tasks: {tasks}
budget: 650ktok
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
LARGE = 128
"""Texts of each expert that a repair reads."""

DRAWS = (1, 2)
"""Other texts for the smallest repair: the second eight of each expert, and the third."""

ADAPTER_RANK = 16
SPACES: tuple[Space, ...] = ("dense", "knots", "core")
TIES = {"density": 0.5, "lambda": 0.8}

SINGULAR_SCALE = 1.2
"""Of tsv_m, as `cuvee bench` tries it first."""

HALF = {"density": 0.5}
LINES: Mapping[str, tuple[Mapping[str, float], tuple[float, ...]]] = {
    "ties": (HALF, (0.8, 1.28, 2.05)),
    "della": (HALF, (0.8, 1.28, 2.05)),
    "tsv_m": ({}, (0.75, 1.2, 1.92)),
}
"""Settings and scales of each method that is tuned: steps of 1.6 as `cuvee bench` makes them."""

ROUTED_TEXTS, EXPERTS_OF_A_TOKEN = 32, 2
"""Texts of each expert that the mixture's routers are solved from, and how many experts see a token."""

REPAIR_SCALE = 0.5
REPAIR = {"mix": 0.3, "ridge": 3e-4}
DTYPE: Dtype = "bfloat16"


@dataclass(frozen=True)
class Blend:
    """A model to measure: its name, its settings, and its recipe.

    Its kind is base, expert, multitask, blend, or draw: a blend by other texts, to show what their choice does.
    """

    name: str
    kind: str
    how: str
    recipe: str


@dataclass(frozen=True)
class Row:
    """A model of the table: its score on each item, and what it remembers of what no expert was trained for.

    `digest` is that of its weights; `seconds` of a processor went by until it was merged and loaded.
    """

    blend: Blend
    scores: Scores
    remembered: Remembered
    digest: str
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "--workers", type=int, default=1, help="processes of the search, each with the models in memory"
    )
    parser.add_argument("--again", action="store_true", help="measure everything anew, and compare it")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    with counted(work, "family"):
        make_family(work)
        write_tasks(work)
    with counted(work, "search", workers=arguments.workers):
        blends = [Blend(**each) for each in stored(work / "searched.json", lambda: searched(work, arguments.workers))]
    rows: list[Row] = []
    for blend in chain(parents(work), blends, others(work)):
        with counted(work, "measuring"):
            rows.append(measured_once(work, blend, work / "measured"))
        if arguments.again:
            compare(rows[-1], measured_once(work, blend, work / "again"))
        (work / "evidence.json").write_text(as_text(document(rows, work)), encoding="utf-8")


def compare(first: Row, second: Row) -> None:
    """Print whether two measures of a model agree: its weights, its scores, its texts."""
    same = {
        "weights": first.digest == second.digest,
        "scores": first.scores == second.scores,
        "what it remembers": first.remembered == second.remembered,
    }
    verdict = ", ".join(f"{name} {'equal' if equal else 'DIFFER'}" for name, equal in same.items())
    print(f"again {first.blend.name}: {verdict}", flush=True)


def experts_of(work: Path) -> list[str]:
    """Return the references of the experts, in the order of the skills."""
    base = work / "base"
    return [
        str(work / "experts" / skill.name) if skill.full else f"{base}+{work / 'experts' / skill.name}"
        for skill in SKILLS
    ]


def space_of(work: Path, texts: int | None = None, *, draw: int = 0) -> WrittenSpace:
    """Return the family as a space: with all the experts' texts, or with a few of each, the first or another draw."""
    tasks = [str(work / "tasks" / f"{skill.name}.yaml") for skill in SKILLS]
    files = [str(text_file(work, skill.name, texts, draw)) for skill in SKILLS]
    return family_space(str(work / "base"), experts_of(work), tasks, files, DTYPE)


def text_file(work: Path, skill: str, texts: int | None, draw: int) -> Path:
    whole = work / "texts" / f"{skill}.jsonl"
    if texts is None:
        return whole
    few = work / "texts" / (f"{texts}-{draw}" if draw else str(texts)) / f"{skill}.jsonl"
    few.parent.mkdir(exist_ok=True)
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    few.write_text("".join(lines[texts * draw : texts * (draw + 1)]), encoding="utf-8")
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


def searched(work: Path, workers: int) -> list[dict[str, str]]:
    """Search in so many processes, and return what is measured of it, as fields of a blend."""
    with Here() if workers == 1 else Processes(workers) as executor:
        return [asdict(blend) for blend in found(work, executor)]


def found(work: Path, executor: Executor) -> Iterator[Blend]:
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
    """Give tsv_m, repairs, adapters in each space, tuned methods and a mixture, each as soon as it is made."""
    tsv_m = plain_recipe(space_of(work), "tsv_m", {"lambda": SINGULAR_SCALE})
    yield Blend("tsv_m", "blend", f"lambda {SINGULAR_SCALE}", tsv_m)
    for texts in CURVE:
        yield aligned(work, texts)
    yield from combined(work)
    for texts in CURVE:
        recipe = plain_recipe(space_of(work, texts), "linear", {}, align={"preset": "regmean_pp"})
        yield Blend(f"regmean_pp by {texts} texts of each", "blend", "off_diagonal 0.9", recipe)
    yield aligned(work, LARGE)
    for method in LINES:
        yield tuned(work, method)
    yield mixture(work)
    for draw in DRAWS:
        yield aligned(work, CURVE[0], draw=draw)


def aligned(work: Path, texts: int, *, draw: int = 0) -> Blend:
    """Return a repair of task arithmetic."""
    space = space_of(work, texts, draw=draw)
    recipe = plain_recipe(space, "task_arithmetic", {"lambda": REPAIR_SCALE}, align=REPAIR)
    name = f"aligned by {texts} texts of each"
    if draw:
        return Blend(f"{name}, draw {draw + 1}", "draw", f"lambda {REPAIR_SCALE}", recipe)
    return Blend(name, "blend", f"lambda {REPAIR_SCALE}", recipe)


def combined(work: Path) -> Iterator[Blend]:
    """Give the experts combined as adapters, in each space."""
    adapters = [str(adapter_of(work, skill)) for skill in SKILLS]
    for space in SPACES:
        folder = work / "combined" / space
        if not folder.exists():
            how = How("ties", space, Wanted(ADAPTER_RANK), TIES)
            with counted(work, "adapters"):
                cuvee.combine_adapters(adapters, [1.0] * len(adapters), folder, how, base=work / "base")
        recipe = parent_recipe(space_of(work), f"{work / 'base'}+{folder}")
        yield Blend(f"ties of adapters, {space} space", "blend", f"rank {ADAPTER_RANK}", recipe)


def tuned(work: Path, method: str) -> Blend:
    """Return a method at the best of a few scales, by the items that searches search on."""
    settings, scales = LINES[method]
    recipes = {}
    for scale in scales:
        recipes[scale] = plain_recipe(space_of(work), method, {**settings, "lambda": scale})
    values = {scale: searched_value(work, f"{method}-{scale}", recipe) for scale, recipe in recipes.items()}
    best = max(scales, key=lambda scale: values[scale])
    how = "".join(f"{name} {value}, " for name, value in settings.items())
    return Blend(f"{method}, tuned", "blend", f"{how}lambda {best} of {len(scales)}", recipes[best])


def searched_value(work: Path, name: str, recipe: str) -> float:
    """Return the mean of the skills' scores on the items to search on."""

    def measure() -> Scores:
        resident = resident_of(setup_of(work))
        resident.apply(recipe)
        return resident.measure(setting_of(space_of(work)).parts.search).scores

    with counted(work, "tuning"):
        scores = stored(work / "tuned" / f"{name}.json", measure)
    return fmean(fmean(values) for values in scores.values())


def mixture(work: Path) -> Blend:
    """Return a mixture of the experts: attention of task arithmetic, feed-forward parts of each, solved routers."""
    folder = work / "mixture"
    space = space_of(work, ROUTED_TEXTS)
    plain = plain_recipe(space, "task_arithmetic", {"lambda": REPAIR_SCALE})
    with counted(work, "mixture"):
        make_once(folder, lambda partial: write_mixture(work, plain, partial))
    how = f"{EXPERTS_OF_A_TOKEN} of {len(SKILLS)} experts a token, routers from {ROUTED_TEXTS} texts"
    return Blend("mixture of experts", "blend", how, parent_recipe(space, str(folder / "mixture")))


def write_mixture(work: Path, plain: str, folder: Path) -> None:
    """Write the mixture, and the dense models that it is made of, into a folder."""
    recipes = {"base": plain}
    for skill, model in zip(SKILLS, space_of(work).models, strict=True):
        recipes[skill.name] = parent_recipe(space_of(work), model.model)
    for name, recipe in recipes.items():
        cuvee.merge_stages(stages_from_text(recipe), folder / name, overwrite=True)
    experts = []
    for skill in SKILLS:
        rows = text_file(work, skill.name, ROUTED_TEXTS, 0).read_text(encoding="utf-8").splitlines()
        texts = [f"{row['input']} {row['target']}" for row in map(json.loads, rows)]
        experts.append({"source_model": skill.name, "positive_prompts": texts})
    document = {
        "base_model": "base",
        "gate_mode": "fitted",
        "experts_per_token": EXPERTS_OF_A_TOKEN,
        "experts": experts,
    }
    (folder / "mixture.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    asked, text = read_upcycling(folder / "mixture.yaml")
    hub = Hub(offline=True)
    models = {model: find_model(model, hub, Silent(), folder=folder) for model in asked.models}
    upcycle(asked, text, models, folder / "mixture", hub=hub, overwrite=True)
    for name in recipes:
        shutil.rmtree(folder / name)


def adapter_of(work: Path, skill: Skill) -> Path:
    """Return an expert as an adapter; a full fine-tune's is extracted."""
    expert = work / "experts" / skill.name
    if not skill.full:
        return expert
    extracted = work / "extracted" / skill.name
    if not extracted.exists():
        cuvee.extract_adapter(expert, work / "base", extracted, Extraction(Wanted(ADAPTER_RANK)))
    return extracted


def measured_once(work: Path, blend: Blend, folder: Path) -> Row:
    """Score a recipe on all private items, and on what no expert was trained for, unless `folder` has its scores."""
    name = blend.name.replace(" ", "-")
    kept = stored(folder / f"{name}-remembers.json", lambda: what_it_remembers(work, blend.recipe))
    scores = stored(folder / f"{name}.json", lambda: private_scores(work, blend.recipe))
    return Row(blend, scores, Remembered(kept["nats"], kept["opposites"]), kept["digest"], kept["seconds"])


def stored(file: Path, measure: Callable[[], Any]) -> Any:
    """Return the content of a file of JSON, which `measure` gives if there is none."""
    if not file.exists():
        content = json.dumps(measure())
        file.parent.mkdir(exist_ok=True)
        write_whole(file, content)
        print(f"measured {file.stem}", file=sys.stderr, flush=True)
    return json.loads(file.read_text(encoding="utf-8"))


def what_it_remembers(work: Path, recipe: str) -> dict[str, Any]:
    started = time.process_time()
    resident = resident_of(setup_of(work))
    resident.apply(recipe)
    seconds = round(time.process_time() - started, 1)
    return {**asdict(remembered(work, resident.model)), "digest": resident.digest, "seconds": seconds}


def private_scores(work: Path, recipe: str) -> Scores:
    resident = resident_of(setup_of(work))
    resident.apply(recipe)
    measured = resident.measure(setting_of(space_of(work)).parts.report)
    return {task.removesuffix("-private"): values for task, values in measured.scores.items()}


def setup_of(work: Path) -> Setup:
    return Setup((str(work / "base"), *experts_of(work)), setting_of(space_of(work)).references, dtype=DTYPE)


def document(rows: list[Row], work: Path) -> dict[str, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "base")
    return {
        "cuvee": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.processor() or platform.machine(),
        "items": {"test": TEST_ITEMS, "public": PUBLIC_ITEMS, "train": TRAIN_ITEMS},
        "skills": {skill.name: {"metric": skill.metric, "full": skill.full} for skill in SKILLS},
        "training_seconds": json.loads((work / "figures.json").read_text(encoding="utf-8")),
        "costs": read_costs(work),
        "tokens_of_texts": tokens_of_texts(work, tokenizer),
        "rows": [as_row(row) for row in rows],
    }


def as_row(row: Row) -> dict[str, Any]:
    """Return a row of the document; a model that was not merged by its recipe has no seconds."""
    blend = row.blend
    merged = not blend.recipe.startswith("merge_method: passthrough")
    return {
        "name": blend.name,
        "kind": blend.kind,
        "how": blend.how,
        "digest": row.digest,
        "seconds": row.seconds if merged else None,
        "scores": rounded(row.scores),
        "nats": row.remembered.nats,
        "opposites": row.remembered.opposites,
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
