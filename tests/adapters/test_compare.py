"""Figures of adapters side by side are those of their dense changes."""

from pathlib import Path

import numpy as np
import pytest

from adapters.made import read_changes, write_adapter
from cuvee.adapters import open_adapter
from cuvee.adapters.quantised import plain_name
from cuvee.comparison.adapters import compare_adapters

SHAPE = (24, 16)


def test_norms_and_cosines_are_those_of_the_dense_changes(tmp_path: Path) -> None:
    ranks = ({"q": 4, "v": 4}, {"q": 3, "o": 3})
    folders = [write_adapter(tmp_path / str(i), r, seed=i, shape=SHAPE, alpha=8) for i, r in enumerate(ranks)]
    found = compare_adapters([open_adapter(folder) for folder in folders])
    first, second = (read_changes(folder) for folder in folders)
    assert found.adapters[0].norm == pytest.approx(np.sqrt(sum((c**2).sum() for c in first.values())), rel=1e-6)
    inner = (first["q"] * second["q"]).sum()
    expected = inner / (found.adapters[0].norm * found.adapters[1].norm)
    assert found.pairs[0].cosine == pytest.approx(expected, rel=1e-5)
    assert found.pairs[0].shared_modules == 1
    assert [module.module for module in found.modules] == ["q", "v", "o"]
    assert found.modules[1].cosines == (None,)
    assert found.to_json()["pairs"][0]["first"] == 0


def test_an_adapter_shares_all_directions_with_itself(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", {"q": 4}, seed=1, shape=SHAPE, alpha=8)
    pair = compare_adapters([open_adapter(folder)] * 2).pairs[0]
    assert (pair.cosine, pair.outputs, pair.inputs) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "unsloth/Llama-3.2-1B-Instruct"),
        ("unsloth/Llama-3.2-1B-unsloth-bnb-4bit", "unsloth/Llama-3.2-1B"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B-Instruct"),
        ("TheBloke/Mistral-7B-v0.1-GPTQ", "Mistral-7B-v0.1"),
        ("mlx-community/Phi-3-mini-4bit", "Phi-3-mini"),
        ("org/model-FP8", "org/model"),
        ("org/model-8bit", "org/model"),
        ("meta-llama/Llama-3.2-1B", None),
        ("org/Mixtral-8x7B-v0.1", None),
        ("./local/folder", None),
    ],
)
def test_the_weights_behind_a_quantised_name(name: str, plain: str | None) -> None:
    assert plain_name(name) == plain
