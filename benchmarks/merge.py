"""Pair whole merges with the plain cost of their bytes, and with mergekit, in one run.

    python benchmarks/checkpoints.py MODELS --size 1.1b
    python benchmarks/merge.py MODELS [--methods linear ties] [--rounds 3] [--mergekit PATH/TO/mergekit-yaml]

Each round runs, one after another: the floor (reads the inputs and writes as many bytes as the output, in 1 MiB
pieces, without arithmetic), `cuvee merge`, and mergekit where it is given. Whole processes are timed, inputs in the
page cache. Prints wall seconds (least, median, greatest), CPU seconds, and ratios of the medians. mergekit is run as a
command of its own environment: `pip install mergekit==0.1.5`.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PIECE = 1 << 20
SETTINGS = {
    "linear": "{weight: 0.3333}",
    "slerp": "{t: 0.4}",
    "task_arithmetic": "{weight: 0.4}",
    "ties": "{weight: 1.0, density: 0.5}",
    "dare_ties": "{weight: 1.0, density: 0.5}",
    "della": "{weight: 1.0, density: 0.5}",
    "model_stock": "{}",
    "karcher": "{}",
}
WITHOUT_BASE = ("linear", "karcher")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--methods", nargs="*", default=["linear", "slerp", "ties", "dare_ties"], choices=SETTINGS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mergekit", type=Path, help="the mergekit-yaml command")
    given = parser.parse_args()
    out = given.models / "out"
    print(f"{'method':16} {'what':9} {'wall s: least/median/greatest':>30} {'CPU s':>7} {'x floor':>8} {'x cuvee':>8}")
    for method in given.methods:
        recipe = given.models / f"{method}.yaml"
        recipe.write_text(recipe_text(given.models, method))
        commands = {"floor": floor_command(given.models, method, out), "cuvee": cuvee_command(recipe, out)}
        if given.mergekit:
            commands["mergekit"] = [str(given.mergekit), str(recipe), str(out), "--no-write-model-card"]
        show(method, {name: [] for name in commands}, commands, out, given.rounds)


def inputs(models: Path, method: str) -> list[Path]:
    experts = sorted(models.glob("expert*"))[: 1 if method == "slerp" else None]
    return experts if method in WITHOUT_BASE else [models / "base", *experts]


def recipe_text(models: Path, method: str) -> str:
    experts = [path for path in inputs(models, method) if path.name != "base"]
    base = "" if method in WITHOUT_BASE else f"base_model: {models}/base\n"
    listed = experts if method != "slerp" else [models / "base", *experts]
    entries = "".join(f"  - model: {path}\n" for path in listed)
    return f"merge_method: {method}\n{base}models:\n{entries}parameters: {SETTINGS[method]}\ndtype: bfloat16\n"


def floor_command(models: Path, method: str, out: Path) -> list[str]:
    files = [str(file) for folder in inputs(models, method) for file in sorted(folder.glob("*.safetensors"))]
    code = (
        "import os, sys, threading\n"
        f"piece = {PIECE}\n"
        "out, *files = sys.argv[1:]\n"
        "written = sum(os.path.getsize(f) for f in files if os.path.dirname(f) == os.path.dirname(files[0]))\n"
        "target = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC)\n"
        "jobs = [(f, p) for f in files for p in range(0, os.path.getsize(f), piece)]\n"
        "share = max(1, len(jobs) * piece // max(written, 1))\n"
        "def work(mine):\n"
        "    buffer = bytearray(piece); open_files = {f: os.open(f, os.O_RDONLY) for f in files}\n"
        "    for i, (f, p) in mine:\n"
        "        os.preadv(open_files[f], [buffer], p)\n"
        "        if i % share == 0: os.pwrite(target, buffer, i // share * piece)\n"
        "numbered = list(enumerate(jobs))\n"
        "threads = [threading.Thread(target=work, args=(numbered[k::2],)) for k in range(2)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
    )
    return [sys.executable, "-c", code, str(out), *files]


def cuvee_command(recipe: Path, out: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("cuvee")), "merge", str(recipe), str(out)]


def show(
    method: str, times: dict[str, list[tuple[float, float]]], commands: dict[str, list[str]], out: Path, rounds: int
) -> None:
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(timed(command, out))
    medians = {name: statistics.median(wall for wall, _ in runs) for name, runs in times.items()}
    for name, runs in times.items():
        walls = sorted(wall for wall, _ in runs)
        spread = f"{walls[0]:.2f} / {medians[name]:.2f} / {walls[-1]:.2f}"
        cpu = statistics.median(cpu for _, cpu in runs)
        ratios = f"{medians[name] / medians['floor']:8.1f} {medians[name] / medians['cuvee']:8.1f}"
        print(f"{method:16} {name:9} {spread:>30} {cpu:7.1f} {ratios}", flush=True)


def timed(command: list[str], out: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of a whole process. The output is removed before."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
