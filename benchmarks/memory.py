"""Show that private memory does not grow: with more models, with larger tensors, with more workers.

    python benchmarks/checkpoints.py MODELS --size 124m
    python benchmarks/memory.py MODELS [--methods linear ties] [--models 3 8 30 100] [--workers 1 2 4 8 16] [--largest]

More models are hard links to the experts of MODELS: each is read, added up and counted as any other model. Larger
tensors are files with holes, which read as zeros and take no room on the disk; only the output does, 2.5 GB for the
largest. Prints the tables of docs/benchmarks.md, from which its charts are drawn: the greatest private memory beyond
that before the merge, as `cuvee merge` says it, CPU seconds of the whole process, bytes read and written for each entry
of an input; and for each method how near the CPU seconds are to a straight line over the number of models (R squared).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SETTINGS = {"linear": "{weight: 0.01}", "task_arithmetic": "{weight: 0.01}", "ties": "{weight: 1.0, density: 0.5}"}
SHAPES = ((1, 1), (1024, 1024), (8192, 8192), (32000, 8192), (152064, 8192))


@dataclass(frozen=True)
class Run:
    """What a merge took: CPU seconds, and bytes: private at most, read, written."""

    cpu: float
    private: int
    read: int
    written: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="*", default=["linear", "ties"], choices=SETTINGS)
    parser.add_argument("--models", nargs="*", type=int, default=[3, 8, 30, 100])
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--largest", action="store_true", help="merge tensors of up to 152,064 x 8,192, too")
    given = parser.parse_args()
    experts = sorted(path for path in given.folder.glob("expert*") if path.is_dir())
    linked = linked_models(given.folder / "linked", experts, max(given.models))
    by_models(given.folder, linked, given.methods, given.models)
    by_workers(given.folder, linked[:8], given.methods, given.workers)
    if given.largest:
        by_size(given.folder / "holes", given.methods)


def by_models(folder: Path, linked: list[Path], methods: list[str], counts: list[int]) -> None:
    print("| models | method | CPU seconds | private memory | bytes for each entry of an input |")
    print("| --- | --- | --- | --- | --- |")
    for method in methods:
        seconds = []
        for count in counts:
            run = merged(method, folder / "base", linked[:count], folder / "out")
            seconds.append(run.cpu)
            entries = run.written // 2 * (count + (method != "linear"))
            each = (run.read + run.written) / entries
            print(f"| {count} | `{method}` | {run.cpu:.2f} | {run.private / 1e6:.1f} MB | {each:.1f} |", flush=True)
        print(f"{method}: R squared {straightness(counts, seconds):.4f}", file=sys.stderr)


def by_workers(folder: Path, models: list[Path], methods: list[str], counts: list[int]) -> None:
    print("\n| workers | method | CPU seconds | private memory |")
    print("| --- | --- | --- | --- |")
    for method in methods:
        for count in counts:
            run = merged(method, folder / "base", models, folder / "out", "--threads", str(count))
            print(f"| {count} | `{method}` | {run.cpu:.2f} | {run.private / 1e6:.1f} MB |", flush=True)


def by_size(folder: Path, methods: list[str]) -> None:
    print("\n| tensor | method | CPU seconds | private memory |")
    print("| --- | --- | --- | --- |")
    for shape in SHAPES:
        models = [with_hole(folder / f"{shape[0]}-{name}", shape) for name in ("base", "a", "b")]
        for method in methods:
            run = merged(method, models[0], models[1:], folder / "out")
            size = " × ".join(f"{length:,}" for length in shape)
            print(f"| {size} | `{method}` | {run.cpu:.2f} | {run.private / 1e6:.1f} MB |", flush=True)
            shutil.rmtree(folder / "out")


def linked_models(folder: Path, experts: list[Path], count: int) -> list[Path]:
    """Return so many models, each a folder of hard links to one of the experts in turn."""
    models = []
    for number in range(count):
        model = folder / str(number)
        if not model.exists():
            shutil.copytree(experts[number % len(experts)], model, copy_function=os.link)
        models.append(model)
    return models


def with_hole(folder: Path, shape: tuple[int, int]) -> Path:
    """Write a model of one bfloat16 tensor of zeros that takes no room."""
    folder.mkdir(parents=True, exist_ok=True)
    nbytes = shape[0] * shape[1] * 2
    tensor = {"dtype": "BF16", "shape": shape, "data_offsets": [0, nbytes]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    header += b" " * (-len(header) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + nbytes)
    return folder


def merged(method: str, base: Path, models: list[Path], out: Path, *options: str) -> Run:
    """Merge in a process of its own."""
    recipe = out.with_suffix(".yaml")
    listed = "".join(f"  - model: {model.resolve()}\n" for model in models)
    start = "" if method == "linear" else f"base_model: {base.resolve()}\n"
    parameters = f"parameters: {SETTINGS[method]}\ndtype: bfloat16\n"
    recipe.write_text(f"merge_method: {method}\n{start}models:\n{listed}{parameters}")
    command = [sys.executable, "-m", "cuvee", "merge", str(recipe), str(out), "--overwrite", "--json", *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = json.loads(done.stdout)["figures"]
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Run(cpu, figures["peak_memory_bytes"], figures["bytes_read"], figures["bytes_written"])


def straightness(counts: list[int], seconds: list[float]) -> float:
    """Return R squared of a straight line through the seconds."""
    line = np.polyval(np.polyfit(counts, seconds, 1), counts)
    spread = np.var(seconds)
    return float(1 - np.mean((np.array(seconds) - line) ** 2) / spread) if spread else 1.0


if __name__ == "__main__":
    main()
