"""A tiny family on disk, bfloat16, one expert sharded; embeddings and head take several blocks and a bit."""

from pathlib import Path

import pytest

import cuvee
from cuvee.plan import Plan, make_plan
from cuvee.testing import TINY_LLAMA, random_weights, write_model

EXPERTS = ("e0", "e1", "e2")
CONFIG = {**TINY_LLAMA, "vocab_size": 3100}


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    base = random_weights(0, config=CONFIG)
    write_model(root / "base", base, config=CONFIG, dtype="BF16")
    for i, name in enumerate(EXPERTS):
        shard_bytes = 20_000 if i == 0 else 1 << 40
        weights = random_weights(i + 1, base=base, config=CONFIG)
        write_model(root / name, weights, config=CONFIG, dtype="BF16", shard_bytes=shard_bytes)
    return root


def mean_of(*folders: Path) -> Plan:
    """Plan the linear merge of models in folders, one half of each."""
    models = "".join(f"- {{model: {folder}, parameters: {{weight: 0.5}}}}\n" for folder in folders)
    return make_plan(cuvee.recipe_from_text(f"merge_method: linear\nmodels:\n{models}"))
