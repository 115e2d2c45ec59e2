"""Tokenizers of models on a hub: known by their hashes, downloaded only when the recipe speaks of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import cuvee
from cuvee.errors import CheckpointError
from cuvee.hub import Hub
from hub.server import LocalHub, running
from tokenizers_made import BUILDERS, library, with_model

TWO = "merge_method: linear\nmodels: [{model: org/a}, {model: org/b}]\nparameters: {weight: 1}\n"


@pytest.fixture
def server() -> Iterator[LocalHub]:
    with running(LocalHub()) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub, tmp_path: Path) -> Hub:
    return Hub(endpoint=server.address, cache=tmp_path / "cache", sleep=lambda _: None)


def put(server: LocalHub, folder: Path, name: str, kind: str, padding: int = 0) -> None:
    with_model(folder / name, BUILDERS[kind], len(name), padding=padding)
    server.put(f"org/{name}", folder / name, commit=name[0] * 40)


def asked_for(server: LocalHub) -> bool:
    return any("GET" in request and "tokenizer.json" in request for request in server.requests)


def test_padding_is_recognised_by_the_hash_of_the_tokenizer(server: LocalHub, hub: Hub, tmp_path: Path) -> None:
    put(server, tmp_path, "a", "bpe")
    put(server, tmp_path, "b", "bpe", padding=5)
    plan = cuvee.make_plan(cuvee.recipe_from_text(TWO), hub=hub)
    assert "padding is left out" in plan.vocabulary.notes[0]
    assert not asked_for(server)
    out = cuvee.run_plan(plan, tmp_path / "out").folder
    assert library(out).get_vocab() == library(tmp_path / "a").get_vocab()
    again = cuvee.make_plan(cuvee.recipe_from_text(TWO), hub=Hub(offline=True, cache=hub.cache))
    assert again.digest == plan.digest


def test_other_tokenizers_are_told_without_a_download(server: LocalHub, hub: Hub, tmp_path: Path) -> None:
    put(server, tmp_path, "a", "bpe")
    put(server, tmp_path, "b", "wordpiece")
    with pytest.raises(CheckpointError, match="the vocabularies differ"):
        cuvee.make_plan(cuvee.recipe_from_text(TWO), hub=hub)
    assert not asked_for(server)


def test_a_union_from_the_hub_equals_one_from_folders(
    server: LocalHub, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(server, tmp_path, "a", "bpe")
    put(server, tmp_path, "b", "unigram")
    text = TWO + "tokenizer: union\n"
    remote = cuvee.merge(cuvee.recipe_from_text(text), "remote", hub=hub)
    local = cuvee.merge(cuvee.recipe_from_text(text.replace("org/", "")), "local")
    assert remote.digest == local.digest
    assert Path("remote/tokenizer.json").read_bytes() == Path("local/tokenizer.json").read_bytes()
