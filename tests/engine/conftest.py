"""A tiny family on disk, bfloat16, one expert sharded."""

from pathlib import Path

import pytest

from cuvee.testing import random_weights, write_model

EXPERTS = ("e0", "e1", "e2")


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    base = random_weights(0)
    write_model(root / "base", base, dtype="BF16")
    for i, name in enumerate(EXPERTS):
        shard_bytes = 20_000 if i == 0 else 1 << 40
        write_model(root / name, random_weights(i + 1, base=base), dtype="BF16", shard_bytes=shard_bytes)
    return root
