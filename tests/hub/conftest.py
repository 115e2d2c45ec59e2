"""A hub on this machine with a family of tiny models, and a cache of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cuvee.hub import Hub
from cuvee.testing import random_weights, write_model
from hub.server import LocalHub, running


@pytest.fixture
def server() -> Iterator[LocalHub]:
    with running(LocalHub()) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub, tmp_path: Path) -> Hub:
    """The server as cuvee reaches it. Waits take no time."""
    return Hub(endpoint=server.address, cache=tmp_path / "cache", sleep=lambda _: None)


@pytest.fixture
def family(server: LocalHub, tmp_path: Path) -> Path:
    """Two models on the hub, org/base and org/tuned, which are also in folders; returns the folders' parent."""
    base = random_weights(0)
    for i, name in enumerate(("base", "tuned")):
        weights = random_weights(i, base=base) if i else base
        folder = write_model(tmp_path / "local" / name, weights, dtype="BF16", shard_bytes=40_000)
        (folder / "tokenizer_config.json").write_text('{"model_max_length": 64}')
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
        server.put(f"org/{name}", folder, commit=f"{i}" * 40)
    return tmp_path / "local"
