"""Merge one tensor of 152,064 x 8,192, the embedding of a large model, by ties within 512 MB.

    python benchmarks/large_tensor.py FOLDER [--memory 512MB]

Makes a base and two models of that tensor alone in bfloat16 (2.5 GB each) where they are not there yet, merges them and
prints seconds and the greatest private memory, as `cuvee merge` does.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out

SHAPE = (152_064, 8_192)
ROWS = 1_024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory", default="512MB")
    given = parser.parse_args()
    for which, name in enumerate(("base", "a", "b")):
        if not (given.folder / name).exists():
            write(given.folder / name, which)
    recipe = given.folder / "ties.yaml"
    models = "".join(f"  - model: {given.folder / name}\n" for name in "ab")
    settings = "parameters: {weight: 1.0, density: 0.5}\ndtype: bfloat16\n"
    recipe.write_text(f"merge_method: ties\nbase_model: {given.folder / 'base'}\nmodels:\n{models}{settings}")
    cuvee = Path(sys.executable).with_name("cuvee")
    out = given.folder / "out"
    subprocess.run([cuvee, "merge", recipe, out, "--overwrite", "--memory", given.memory], check=True)


def write(folder: Path, which: int) -> None:
    """Write a model of one tensor: the base's numbers, of which a model changes about two thirds a little."""
    name = "model.embed_tokens.weight"
    shards = lay_out([OutputTensor(name, "BF16", SHAPE)], 1 << 40)
    with CheckpointWriter(folder, shards) as writer:
        for row in range(0, SHAPE[0], ROWS):
            shape = (min(ROWS, SHAPE[0] - row), SHAPE[1])
            numbers = np.random.default_rng(row).standard_normal(shape, np.float32) * np.float32(0.02)
            if which:
                random = np.random.default_rng((which, row))
                change = random.standard_normal(shape, np.float32) * np.float32(0.0006)
                numbers += np.where(random.random(shape, np.float32) < 0.3, np.float32(0), change)
            part = numbers.astype(ml_dtypes.bfloat16)
            writer.write(name, row * SHAPE[1] * 2, part.reshape(-1).view(np.uint8))
        writer.finish()


if __name__ == "__main__":
    main()
