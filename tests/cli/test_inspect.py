"""`cuvee inspect`."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cuvee.checkpoint import Checkpoint
from cuvee.cli.app import app
from cuvee.testing import TINY_LLAMA, random_weights, write_model

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tied model with a tokenizer's file, of which only the headers may be read."""

    def refuse(*_: object) -> None:
        raise AssertionError("a tensor was read")

    weights = {name: array for name, array in random_weights(1).items() if name != "lm_head.weight"}
    weights["model.layers.0.odd"] = np.zeros(3, np.float32)
    folder = write_model(tmp_path / "m", weights, config=TINY_LLAMA | {"tie_word_embeddings": True}, shard_bytes=20_000)
    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(Checkpoint, "read_into", refuse)
    return folder


def output(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["inspect", *arguments], env={"COLUMNS": "120"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_json_says_everything_from_the_headers(model: Path) -> None:
    found = json.loads(output(str(model), "--json"))
    assert found["tensor_count"] == len(found["tensors"]) == 30
    assert found["parameters"] == sum(int(np.prod(tensor["shape"])) for tensor in found["tensors"])
    assert found["dtypes"] == {"F32": found["parameters"]}
    assert found["ties"] == [{"embedding": EMBEDDING, "head": None, "state": "tied"}]
    stack = {"prefix": "model.layers", "module": "language", "depth": 3, "tensors": 28, "experts": 0}
    assert found["stacks"] == [stack]
    assert found["tokenizer"] == ["tokenizer.json"]
    assert found["bytes"] < sum(found["files"].values())
    assert sum(found["roles"].values()) == found["parameters"]
    assert {tensor["role"] for tensor in found["tensors"]} == {"embedding", "linear", "norm", "unknown"}


def test_the_terminal_shows_each_place_once_and_what_is_unknown(model: Path) -> None:
    shown = output(str(model))
    assert f"{EMBEDDING} is also the head" in shown
    assert shown.count("self_attn.q_proj.weight") == 1
    assert "3 layers" in shown
    assert "3 parameters have a role that neither name nor shape tells" in shown
