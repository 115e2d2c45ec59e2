"""Combines twenty LoRA adapters of a 7B model's shape and prints time and memory: `python benchmarks/adapters.py DIR`.

The adapters (rank 16, q and v of 32 layers of width 4096, bfloat16) are made in DIR from a seed at the first run. Each
combination runs in a process of its own, whose largest private memory is measured. `--small` is for the tests.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out_file

PREFIX = "base_model.model."
METHODS = ("task_arithmetic", "geometric_median")


def write_adapter(folder: Path, seed: int, layers: int, width: int, rank: int) -> None:
    """Write one adapter of random factors."""
    generator = np.random.default_rng(seed)
    modules = [f"model.layers.{i}.self_attn.{name}" for i in range(layers) for name in ("q_proj", "v_proj")]
    shapes = {"lora_A": (rank, width), "lora_B": (width, rank)}
    tensors = [OutputTensor(f"{PREFIX}{m}.{s}.weight", "BF16", shape) for m in modules for s, shape in shapes.items()]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj", "v_proj"]}
    with CheckpointWriter(folder, [lay_out_file("adapter_model.safetensors", tensors)]) as writer:
        for tensor in tensors:
            numbers = generator.standard_normal(tensor.elements, np.float32) * 0.02
            writer.write(tensor.name, 0, numbers.astype(NUMPY["BF16"]))
        writer.write_file("adapter_config.json", json.dumps(config))
        writer.finish()


def measure(folders: list[Path], out: Path, method: str, rank: int | None, threads: int) -> dict[str, float]:
    """Combine in this process; return seconds, peak memory and the part of the energy that was discarded."""
    from cuvee.adapters import open_adapter
    from cuvee.adapters.low_rank import Wanted
    from cuvee.engine.combine import How, combine
    from cuvee.engine.peak import PeakMemory

    started = time.perf_counter()
    adapters = [open_adapter(folder) for folder in folders]
    with PeakMemory() as peak:
        how = How(method, wanted=Wanted(rank))
        made = combine(adapters, [1 / len(adapters)] * len(adapters), out, how, threads=threads, overwrite=True)
        private = peak.bytes()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "resident": resident, "private": private, "discarded": made.discarded}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="three layers of width 64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", metavar="METHOD", help="combine in this process by one method")
    parser.add_argument("--rank", type=int)
    given = parser.parse_args()
    layers, width, rank = (3, 64, 4) if given.small else (32, 4096, 16)
    folders = [given.folder / f"adapter-{seed}" for seed in range(20)]
    for seed, folder in enumerate(folders):
        if not folder.exists():
            write_adapter(folder, seed, layers, width, rank)
    if given.one:
        print(json.dumps(measure(folders, given.folder / given.one, given.one, given.rank, given.threads)))
        return
    for method in METHODS:
        for ranks in ([], ["--rank", str(rank)]):
            command = [sys.executable, __file__, str(given.folder), "--one", method, "--threads", str(given.threads)]
            command += ranks + (["--small"] if given.small else [])
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"{method:18} {' '.join(ranks) or 'exactly':9} {found['seconds']:6.1f} s  "
                f"resident {found['resident'] / 1e6:6.0f} MB  private {found['private'] / 1e6:6.0f} MB  "
                f"discarded {found['discarded']:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
