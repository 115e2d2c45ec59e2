"""Make realistic checkpoints: a Llama-shaped base and fine-tunes of it, bfloat16, in shards.

    python benchmarks/checkpoints.py OUT [--size 124m|1.1b] [--experts 3]

A fine-tune leaves 30 % of the entries alone and moves the others by noise of 3 % of the base's spread, as fine-tunes of
language models do.
"""

import argparse
import json
from pathlib import Path

import ml_dtypes
import numpy as np

from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.testing import TINY_LLAMA, llama_shapes

SIZES = {
    "124m": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 2048},
    "1.1b": {"hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32, "intermediate_size": 5632},
}
SHARD_BYTES = 2_000_000_000
SPREAD, MOVED, UNTOUCHED = 0.02, 0.03, 0.3
PIECE = 1 << 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=SIZES, default="1.1b")
    parser.add_argument("--experts", type=int, default=3)
    given = parser.parse_args()
    common = {"num_key_value_heads": 4, "vocab_size": 32000, "torch_dtype": "bfloat16"}
    config = {**TINY_LLAMA, **common, **SIZES[given.size]}
    given.out.mkdir(parents=True, exist_ok=True)
    for model in range(given.experts + 1):
        write(given.out / (f"expert{model}" if model else "base"), config, model)


def write(folder: Path, config: dict[str, object], model: int) -> None:
    """Write one model, piece by piece."""
    tensors = [OutputTensor(name, "BF16", shape) for name, shape in llama_shapes(config).items()]
    with CheckpointWriter(folder, lay_out(tensors, SHARD_BYTES), overwrite=True) as writer:
        for number, tensor in enumerate(tensors):
            elements = tensor.nbytes // 2
            for start in range(0, elements, PIECE):
                numbers = piece(tensor, number, start, min(PIECE, elements - start), model)
                writer.write(tensor.name, start * 2, numbers.astype(ml_dtypes.bfloat16))
        writer.write_file("config.json", json.dumps(config))
        writer.write_file("cuvee.json", "{}")
        writer.finish()
    print(folder, flush=True)


def piece(tensor: OutputTensor, number: int, start: int, count: int, model: int) -> np.ndarray:
    """Return some of a tensor's numbers; the base's are drawn again for every fine-tune."""
    base = np.random.Generator(np.random.SFC64([number, start])).standard_normal(count, np.float32)
    base = base * np.float32(SPREAD) + np.float32(len(tensor.shape) == 1)
    if model == 0:
        return base
    generator = np.random.Generator(np.random.SFC64([number, start, model]))
    noise = generator.standard_normal(count, np.float32) * np.float32(SPREAD * MOVED)
    touched = generator.random(count, np.float32) >= UNTOUCHED
    return base.astype(ml_dtypes.bfloat16).astype(np.float32) + np.where(touched, noise, np.float32(0))


if __name__ == "__main__":
    main()
