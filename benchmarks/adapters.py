"""Combines twenty LoRA adapters of a 7B model's shape and prints time and memory: `python benchmarks/adapters.py DIR`.

The adapters (rank 16, q and v of 32 layers of width 4096, bfloat16) are made in DIR from a seed at the first run. Each
combination runs in a process of its own, whose largest private memory is measured. `--experts 8` makes them of the
experts of a mixture instead (width 2048, inner width 4096), over a base that is a file of holes. `--small` is for the
tests.
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
    write_random(folder, tensors, config, generator)


def write_expert_adapter(folder: Path, seed: int, layers: int, width: int, rank: int, experts: int) -> None:
    """Write one adapter of random factors for the fused experts of a mixture, as PEFT does."""
    inner, count = 2 * width, experts * rank
    tensors = []
    for i in range(layers):
        module = f"{PREFIX}model.layers.{i}.mlp.experts"
        for where, out, into in ((".base_layer", 2 * inner, width), ("", width, inner)):
            tensors.append(OutputTensor(f"{module}{where}.lora_A.weight", "BF16", (count, into)))
            tensors.append(OutputTensor(f"{module}{where}.lora_B.weight", "BF16", (out, count)))
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": [], "target_parameters": names}
    write_random(folder, tensors, config | {"peft_version": "0.21.2"}, np.random.default_rng(seed))


def write_mixture(folder: Path, layers: int, width: int, experts: int) -> None:
    """Write the base of such adapters: its headers are real, and its numbers a hole in the file."""
    inner, vocabulary = 2 * width, 32_000
    shapes = {"model.embed_tokens": (vocabulary, width), "lm_head": (vocabulary, width)}
    for i in range(layers):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.self_attn.{name}_proj": (width, width) for name in "qkvo"}
        shapes[f"{layer}.mlp.gate"] = (experts, width)
        for e in range(experts):
            shapes |= {f"{layer}.mlp.experts.{e}.{name}_proj": (inner, width) for name in ("gate", "up")}
            shapes[f"{layer}.mlp.experts.{e}.down_proj"] = (width, inner)
    config = {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_hidden_layers": layers}
    config |= {"hidden_size": width, "num_experts": experts, "moe_intermediate_size": inner, "vocab_size": vocabulary}
    shard = lay_out_file("model.safetensors", [OutputTensor(f"{n}.weight", "BF16", s) for n, s in shapes.items()])
    folder.mkdir()
    with (folder / shard.file).open("wb") as file:
        file.write(shard.header)
        file.truncate(shard.nbytes)
    (folder / "config.json").write_text(json.dumps(config))


def write_random(
    folder: Path, tensors: list[OutputTensor], config: dict[str, object], generator: np.random.Generator
) -> None:
    """Write an adapter of random numbers."""
    with CheckpointWriter(folder, [lay_out_file("adapter_model.safetensors", tensors)]) as writer:
        for tensor in tensors:
            numbers = generator.standard_normal(tensor.elements, np.float32) * 0.02
            writer.write(tensor.name, 0, numbers.astype(NUMPY["BF16"]))
        writer.write_file("adapter_config.json", json.dumps(config))
        writer.finish()


def measure(
    folders: list[Path], base: Path | None, out: Path, method: str, rank: int | None, threads: int
) -> dict[str, float]:
    """Combine in this process; return seconds, peak memory and the part of the energy that was discarded."""
    from cuvee.adapters import open_adapter
    from cuvee.adapters.low_rank import Wanted
    from cuvee.engine.combine import How, combine
    from cuvee.engine.peak import PeakMemory
    from cuvee.foreign import open_files

    started = time.perf_counter()
    adapters = [open_adapter(folder) for folder in folders]
    with PeakMemory() as peak:
        how = How(method, wanted=Wanted(rank))
        over = open_files(base) if base is not None else None
        weights = [1 / len(adapters)] * len(adapters)
        made = combine(adapters, weights, out, how, base=over, threads=threads, overwrite=True)
        private = peak.bytes()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds, cpu = time.perf_counter() - started, time.process_time()
    return {"seconds": seconds, "cpu": cpu, "resident": resident, "private": private, "discarded": made.discarded}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="three layers of width 64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", metavar="METHOD", help="combine in this process by one method")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--experts", type=int, default=0, help="adapters of the experts of a mixture of so many")
    given = parser.parse_args()
    layers, width, rank = (3, 64, 4) if given.small else (32, 2048 if given.experts else 4096, 16)
    kind = f"experts-{given.experts}-" if given.experts else ""
    folders = [given.folder / f"{kind}adapter-{seed}" for seed in range(20)]
    for seed, folder in enumerate(folders):
        if not folder.exists() and given.experts:
            write_expert_adapter(folder, seed, layers, width, rank, given.experts)
        elif not folder.exists():
            write_adapter(folder, seed, layers, width, rank)
    base = given.folder / f"{kind}base" if given.experts else None
    if base is not None and not base.exists():
        write_mixture(base, layers, width, given.experts)
    if given.one:
        out = given.folder / f"{kind}{given.one}"
        print(json.dumps(measure(folders, base, out, given.one, given.rank, given.threads)))
        return
    for method in METHODS:
        for ranks in ([], ["--rank", str(rank)]):
            command = [sys.executable, __file__, str(given.folder), "--one", method, "--threads", str(given.threads)]
            command += [*ranks, "--experts", str(given.experts)] + (["--small"] if given.small else [])
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"{method:18} {' '.join(ranks) or 'exactly':9} {found['seconds']:6.1f} s  cpu {found['cpu']:6.1f} s  "
                f"resident {found['resident'] / 1e6:6.0f} MB  private {found['private'] / 1e6:6.0f} MB  "
                f"discarded {found['discarded']:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
