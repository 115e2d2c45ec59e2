"""Candidates an hour and core: merged into a resident model, and by processes, of the same candidates in one run.

    python benchmarks/search.py [--methods task_arithmetic ties tsv_m] [--candidates 4] [--rivals 1] [--items 200]

The bundled family on its five public tasks, by default all 200 items of each. Each candidate of a method has weights
and a lambda of its own. The first `--rivals` of each method are also done by `cuvee merge` and `cuvee evaluate`, a
process each, right after the resident model did them, and must give the same score for every item. CPU seconds count,
of one thread, for "an hour and core". What the resident model's first candidate takes, once, is told apart.

`--flat N` merges and measures N candidates more, on 25 items each, and tells how the process's memory grew.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before torch counts the processors

from cuvee import demo
from cuvee.search.resident import Items, Resident, Setup

SETTLED = 20
"""Candidates after which memory is compared: by then every method has run."""

Scores = Mapping[str, list[float]]
Result = TypeVar("Result")


@dataclass
class Took:
    """What candidates of one method took in all, in seconds."""

    candidates: int = 0
    cpu: float = 0.0
    wall: float = 0.0

    def add(self, cpu: float, wall: float) -> None:
        self.candidates += 1
        self.cpu += cpu
        self.wall += wall

    @property
    def an_hour_and_core(self) -> float:
        return 3600 * self.candidates / self.cpu if self.cpu else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["task_arithmetic", "ties", "tsv_m"])
    parser.add_argument("--candidates", type=int, default=4, help="of each method")
    parser.add_argument("--rivals", type=int, default=1, help="candidates of each method that processes do, too")
    parser.add_argument("--items", type=int, default=200, help="of each task")
    parser.add_argument("--flat", type=int, default=0, help="candidates over which memory is watched")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = measured(options.methods, options.candidates, options.rivals, options.items)
    if options.flat:
        results["memory"] = memory_over(options.methods, options.flat)
    print(json.dumps(results, indent=2) if options.json else shown(results))


def setup() -> Setup:
    models = [str(demo.model_folder(name)) for name in (demo.BASE, *demo.expert_names())]
    tasks = [name for name in demo.task_names() if not name.endswith("-private")]
    return Setup(tuple(models), tuple(tasks), device="cpu")


def recipe(method: str, number: int) -> str:
    """Return a candidate's recipe: every number gives other weights and another lambda."""
    base, *experts = setup().models
    weights = [0.4 + 0.03 * ((number + 3 * place) % 10) for place in range(len(experts))]
    listed = [
        f"- {{model: {model}, parameters: {{weight: {weight:.2f}}}}}"
        for model, weight in zip(experts, weights, strict=True)
    ]
    ending = f"parameters: {{lambda: {0.5 + 0.0005 * number:.4f}}}"
    return "\n".join([f"merge_method: {method}", f"base_model: {base}", "models:", *listed, ending, ""])


def loaded() -> tuple[Resident, Items]:
    chosen = setup()
    tasks = chosen.loaded_tasks()
    items = {task.name: [sample.id for sample in task.samples] for task in tasks}
    return Resident(chosen.models, tasks, device="cpu"), items


def measured(methods: list[str], candidates: int, rivals: int, most: int) -> dict[str, Any]:
    resident, every = loaded()
    items = {task: ids[:most] for task, ids in every.items()}
    start = Took()

    def in_place(text: str) -> Scores:
        resident.apply(text)
        return resident.measure(items).scores

    timed(start, lambda: in_place(recipe(methods[0], 0)))
    by_method: dict[str, dict[str, Any]] = {}
    for method in methods:
        own, own_of_pairs, other = Took(), Took(), Took()
        for number in range(1, candidates + 1):
            text = recipe(method, number)
            scores = timed(own, lambda text=text: in_place(text))
            if number > rivals:
                continue
            own_of_pairs.add(own.cpu - own_of_pairs.cpu, own.wall - own_of_pairs.wall)
            theirs = timed(other, lambda text=text: by_processes(text, items))
            assert theirs == scores, f"{method} {number}: the processes score otherwise"
        by_method[method] = {
            "resident": figures(own),
            "resident, of the pairs": figures(own_of_pairs),
            "processes": figures(other),
            "times as many": round(other.cpu / own_of_pairs.cpu, 1) if rivals else None,
        }
    return {"items": sum(map(len, items.values())), "start": figures(start), "methods": by_method}


def timed(took: Took, work: Callable[[], Result]) -> Result:
    """Do something, and add the CPU and wall seconds that it took, those of its processes among them."""
    before = os.times()
    result = work()
    after = os.times()
    took.add(sum(after[:4]) - sum(before[:4]), after.elapsed - before.elapsed)
    return result


def figures(took: Took) -> dict[str, float]:
    return {key: round(value, 2) for key, value in asdict(took).items()} | {"an hour": round(took.an_hour_and_core)}


def by_processes(text: str, items: Items) -> Scores:
    """Merge and evaluate by the command line, as a person or a script without a resident model does."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "recipe.yaml").write_text(text)
        call("merge", str(folder / "recipe.yaml"), str(folder / "out"), "--threads", "1")
        scores, limit = folder / "scores", str(max(map(len, items.values())))
        settings = ("--limit", limit, "--out", str(scores), "--device", "cpu")
        call("evaluate", str(folder / "out"), *items, *settings)
        return {task: list(read_scores(scores, task, ids)) for task, ids in items.items()}


def call(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cuvee", *arguments], check=True, capture_output=True)


def read_scores(folder: Path, task: str, ids: list[str]) -> Iterator[float]:
    """Give the main metric of each item, in the order of the ids."""
    lines = [json.loads(line) for line in (folder / "samples" / f"{task}.jsonl").read_text().splitlines()]
    by_id = {line["id"]: line["metrics"] for line in lines}
    for name in ids:
        yield next(iter(by_id[name].values()))


def memory_over(methods: list[str], candidates: int) -> dict[str, float]:
    """Merge and measure many candidates on 25 items each, and return megabytes of memory early and at the end."""
    resident, items = loaded()
    early = 0.0
    for number in range(candidates + 1):
        resident.apply(recipe(methods[number % len(methods)], number))
        resident.measure({task: window(ids, number) for task, ids in items.items()})
        if number == SETTLED:
            early = resident_megabytes()
    late = resident_megabytes()
    return {"early MB": early, "late MB": late, "growth": round(late / early - 1, 4), "candidates": candidates}


def window(ids: list[str], number: int) -> list[str]:
    start = 5 * number % len(ids)
    return ids[start : start + 5]


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


def shown(results: dict[str, Any]) -> str:
    lines = [f"{results['items']} items; the resident model starts in {results['start']['cpu']} CPU s", ""]
    lines += [
        "| method | resident: CPU s, an hour and core | processes: the same | times as many |",
        "|---|---|---|---|",
    ]
    for method, found in results["methods"].items():
        own, other = found["resident"], found["processes"]
        each = [f"{took['cpu'] / max(took['candidates'], 1):.2f}, {took['an hour']:,}" for took in (own, other)]
        lines.append(f"| {method} | {each[0]} | {each[1]} | {found['times as many']} |")
    if "memory" in results:
        lines += ["", f"memory: {results['memory']}"]
    return "\n".join(lines)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"in {time.perf_counter() - started:.0f} s", file=sys.stderr)
