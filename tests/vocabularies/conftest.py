"""Three models with tokenizers of different kinds."""

from pathlib import Path

import numpy as np
import pytest

from tokenizers_made import BUILDERS, with_model


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, np.ndarray]]:
    """Models bpe, unigram and wordpiece in the current folder; returns their weights."""
    monkeypatch.chdir(tmp_path)
    return {name: with_model(tmp_path / name, build, seed) for seed, (name, build) in enumerate(BUILDERS.items())}
