"""Pair eight recipes in one pass with each of them alone, in one run.

    python benchmarks/checkpoints.py MODELS --size 124m
    python benchmarks/together.py MODELS [--rounds 3] [--other CHECKOUT]

Four recipes of `task_arithmetic` and four of `ties`, over the same base and three fine-tunes. Each round runs, as whole
processes in turn: every recipe alone, and all in one pass, by this checkout and by the other. The page cache is warm.
Prints CPU and wall seconds (least and median) and how many times the dearest recipe alone the pass takes. Ends with an
error if an output of the pass is not, byte for byte, that of its recipe alone.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from merge import warm

HERE = Path(__file__).parent.parent
RECIPES = {
    **{f"arithmetic-{weight}": ("task_arithmetic", f"{{weight: {weight}}}") for weight in (0.2, 0.3, 0.4, 0.5)},
    **{f"ties-{density}": ("ties", f"{{weight: 1.0, density: {density}}}") for density in (0.2, 0.3, 0.5, 0.7)},
}
PASS = "one pass"


@dataclass(frozen=True)
class Run:
    """What a process took."""

    cpu_seconds: float
    wall_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path, help="checkout to compare with")
    given = parser.parse_args()
    files = written(given.models)
    out = given.models / "out"
    checkouts = {"this": HERE} | ({"other": given.other.absolute()} if given.other else {})
    runs: dict[str, dict[str, list[Run]]] = {side: {name: [] for name in (*RECIPES, PASS)} for side in checkouts}
    warm(sorted(given.models.glob("*/*.safetensors")))
    for _ in range(given.rounds):
        for name in (*RECIPES, PASS):
            for side, checkout in checkouts.items():
                recipes = list(files.values()) if name == PASS else [files[name]]
                runs[side][name].append(timed(checkout, recipes, out / side / name))
    for side in checkouts:
        for name in RECIPES:
            check_equal(out / side / name, out / side / PASS / name)
        show(side, runs[side])
    shutil.rmtree(out)


def written(models: Path) -> dict[str, Path]:
    """Write the recipes; return their files by name."""
    base = models / "base"
    entries = "".join(f"  - model: {path}\n" for path in sorted(models.glob("expert*")))
    files = {}
    for name, (method, parameters) in RECIPES.items():
        files[name] = models / f"{name}.yaml"
        head = f"merge_method: {method}\nbase_model: {base}\nmodels:\n"
        files[name].write_text(f"{head}{entries}parameters: {parameters}\ndtype: bfloat16\n")
    return files


def timed(checkout: Path, recipes: list[Path], out: Path) -> Run:
    """Run `cuvee merge` of a checkout as a whole process; what it wrote before is removed."""
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cuvee", "merge", *map(str, recipes), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "HF_HUB_OFFLINE": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall)


def check_equal(alone: Path, together: Path) -> None:
    """Raise SystemExit where weights differ."""
    files = sorted(file.name for file in alone.glob("*.safetensors"))
    for file in files:
        subprocess.run(["cmp", str(alone / file), str(together / file)], check=True)
    if not files:
        raise SystemExit(f"{alone} has no weights")


def show(side: str, runs: dict[str, list[Run]]) -> None:
    """Print seconds and ratios of one side."""
    print(f"{side:18} {'CPU s: least, median':>22} {'wall s: least, median':>22}")
    least, median = {}, {}
    for name, each in runs.items():
        cpu = [run.cpu_seconds for run in each]
        wall = [run.wall_seconds for run in each]
        least[name], median[name] = min(cpu), statistics.median(cpu)
        print(f"  {name:16} {min(cpu):11.2f}, {median[name]:9.2f} {min(wall):11.2f}, {statistics.median(wall):9.2f}")
    for word, seconds in (("least", least), ("median", median)):
        dearest = max(seconds[name] for name in RECIPES)
        print(f"  the pass takes {seconds[PASS] / dearest:.2f} times the dearest alone, by {word} CPU seconds")


if __name__ == "__main__":
    main()
