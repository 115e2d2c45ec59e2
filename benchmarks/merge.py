"""Pair whole merges with the plain cost of their bytes, and with mergekit, in one run.

    python benchmarks/checkpoints.py MODELS --size 1.1b
    python benchmarks/merge.py MODELS [--methods linear ties] [--rounds 3] [--cold] [--mergekit PATH/TO/mergekit-yaml]

Each round runs, one after another: the floor (reads the inputs and writes as many bytes as the output, in 1 MiB
pieces, without arithmetic), `cuvee merge`, the same with `compute_dtype: as_loaded`, and mergekit where it is given.
Whole processes are timed, inputs in the page cache, or dropped from it with `--cold`. Prints wall seconds (least,
median, greatest), CPU seconds, the greatest private and total memory, and ratios of the medians to the floor and to
`cuvee`. mergekit is run as a command of its own environment: `pip install mergekit==0.1.5`.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PIECE = 1 << 20
SETTINGS = {
    "linear": "{weight: 0.3333}",
    "slerp": "{t: 0.4}",
    "task_arithmetic": "{weight: 0.4}",
    "nuslerp": "{weight: 0.5}",
    "multislerp": "{weight: 0.5}",
    "ties": "{weight: 1.0, density: 0.5}",
    "breadcrumbs": "{weight: 1.0, density: 0.5}",
    "dare_ties": "{weight: 1.0, density: 0.5}",
    "della": "{weight: 1.0, density: 0.5}",
    "model_stock": "{}",
    "karcher": "{}",
    "sce": "{select_topk: 0.5}",
    "arcee_fusion": "{}",
    "passthrough": "{}",
}
WITHOUT_BASE = ("linear", "karcher", "multislerp", "passthrough")
ENDPOINTS = ("slerp", "arcee_fusion")
EXPERTS = {"slerp": 1, "arcee_fusion": 1, "passthrough": 1, "nuslerp": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--methods", nargs="*", default=["linear", "slerp", "ties", "dare_ties"], choices=SETTINGS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="drop the inputs from the page cache before each run")
    parser.add_argument("--mergekit", type=Path, help="the mergekit-yaml command")
    given = parser.parse_args()
    out = given.models / "out"
    print(
        f"{'method':16} {'what':10} {'wall s: least/median/greatest':>30} {'CPU s':>7} {'private':>9} {'total':>9}",
        end="",
    )
    print(f" {'x floor':>8} {'x cuvee':>8}")
    for method in given.methods:
        files = [file for folder in inputs(given.models, method) for file in sorted(folder.glob("*.safetensors"))]
        commands = {"floor": floor_command(files, out)} | cuvee_commands(given.models, method, out)
        if given.mergekit:
            recipe = given.models / f"{method}.yaml"
            commands["mergekit"] = [str(given.mergekit), str(recipe), str(out), "--no-write-model-card"]
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, command in commands.items():
                drop(files) if given.cold else warm(files)
                runs[name].append(timed(command, out))
        show(method, runs)


def inputs(models: Path, method: str) -> list[Path]:
    experts = sorted(models.glob("expert*"))[: EXPERTS.get(method)]
    return experts if method in WITHOUT_BASE else [models / "base", *experts]


def recipe_text(models: Path, method: str) -> str:
    experts = [path for path in inputs(models, method) if path.name != "base"]
    base = "" if method in WITHOUT_BASE else f"base_model: {models}/base\n"
    listed = [models / "base", *experts] if method in ENDPOINTS else experts
    entries = "".join(f"  - model: {path}\n" for path in listed)
    return f"merge_method: {method}\n{base}models:\n{entries}parameters: {SETTINGS[method]}\ndtype: bfloat16\n"


def cuvee_commands(models: Path, method: str, out: Path) -> dict[str, list[str]]:
    command = str(Path(sys.executable).with_name("cuvee"))
    forms = {"cuvee": "", "as_loaded": "compute_dtype: as_loaded\n"}
    commands = {}
    for name, line in forms.items():
        recipe = models / f"{method}{'-as-loaded' if line else ''}.yaml"
        recipe.write_text(recipe_text(models, method) + line)
        commands[name] = [command, "merge", str(recipe), str(out)]
    return commands


def drop(files: list[Path]) -> None:
    """Drop files from the page cache."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(files: list[Path]) -> None:
    """Read files, so that they are in the page cache: the system may have let go of them since the last run."""
    buffer = bytearray(PIECE)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def floor_command(files: list[Path], out: Path) -> list[str]:
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
    return [sys.executable, "-c", code, str(out), *map(str, files)]


@dataclass(frozen=True)
class Run:
    """What one process took: seconds, CPU seconds, and the greatest memory seen, in bytes."""

    wall: float
    cpu: float
    private: int
    total: int


def show(method: str, runs: dict[str, list[Run]]) -> None:
    medians = {name: statistics.median(run.wall for run in each) for name, each in runs.items()}
    for name, each in runs.items():
        walls = sorted(run.wall for run in each)
        spread = f"{walls[0]:.2f} / {medians[name]:.2f} / {walls[-1]:.2f}"
        cpu = statistics.median(run.cpu for run in each)
        memory = "".join(
            f"{max(sizes) / 1e6:7.0f}MB" for sizes in zip(*((r.private, r.total) for r in each), strict=True)
        )
        ratios = f"{medians[name] / medians['floor']:8.1f} {medians[name] / medians['cuvee']:8.1f}"
        print(f"{method:16} {name:10} {spread:>30} {cpu:7.1f} {memory} {ratios}", flush=True)


def timed(command: list[str], out: Path) -> Run:
    """Run a whole process. The output is removed before."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(command, stdout=talk, stderr=talk, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        private = total = 0
        while process.poll() is None:
            seen = memory_of(process.pid)
            private, total = max(private, seen[0]), max(total, seen[1])
            time.sleep(0.02)
        wall = time.perf_counter() - started
        if process.returncode:
            talk.seek(0)
            raise SystemExit(f"{command[0]} failed:\n{talk.read().decode()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, private, total)


def memory_of(process: int) -> tuple[int, int]:
    """Return the private (anonymous) and total bytes that a process has in memory."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "VmRSS"))}
    return sizes.get("RssAnon", 0), sizes.get("VmRSS", 0)


if __name__ == "__main__":
    main()
