"""A union of different tokenizers: ids and rows as a plain dictionary has them, and texts that come back."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CheckpointError
from cuvee.testing import write_model
from tokenizers_made import BUILDERS, TEXT, byte_level_bpe, library, with_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Weights = dict[str, np.ndarray]


def merged(order: tuple[str, ...], rest: str = "tokenizer: union\n") -> Path:
    models = ", ".join(f"{{model: {name}}}" for name in order)
    base = f"base_model: {order[0]}\n" if "BASE" in rest else ""
    text = f"merge_method: linear\n{base}models: [{models}]\nparameters: {{weight: 1}}\n{rest.replace('BASE', '')}"
    return cuvee.merge(cuvee.recipe_from_text(text), "-".join(order) + "-out").folder


def by_hand(
    order: tuple[str, ...], tensor: str, family: dict[str, Weights], *, based: bool
) -> tuple[dict[str, int], np.ndarray]:
    """Return ids and merged rows, token by token with a dictionary."""
    vocabularies = [library(Path(name)).get_vocab() for name in order]
    special = [
        {entry["content"] for entry in json.loads((Path(name) / "tokenizer.json").read_text())["added_tokens"]}
        for name in order
    ]
    ids = dict(vocabularies[0])
    for wanted in (False, True):
        for vocabulary, own in zip(vocabularies, special, strict=True):
            for token in sorted(vocabulary, key=vocabulary.__getitem__):
                if token not in ids and (token in set().union(*special)) is wanted and (token in own) is wanted:
                    ids[token] = len(ids)
    rows = np.zeros((len(ids), family[order[0]][tensor].shape[1]))
    for token, number in ids.items():
        have = {
            name: family[name][tensor][vocabulary[token]].astype(np.float64)
            for name, vocabulary in zip(order, vocabularies, strict=True)
            if token in vocabulary
        }
        fill = have[order[0]] if based and order[0] in have else np.mean(list(have.values()), axis=0)
        rows[number] = np.mean([have.get(name, fill) for name in order], axis=0)
    return ids, rows


@pytest.mark.parametrize("based", [False, True])
@pytest.mark.parametrize("order", list(permutations(BUILDERS)))
def test_ids_and_rows_are_those_of_a_dictionary(
    order: tuple[str, ...], based: bool, family: dict[str, Weights]
) -> None:
    out = merged(order, "tokenizer: union\n" + "BASE" * based)
    with open_checkpoint(out) as checkpoint:
        for tensor in (EMBEDDING, HEAD):
            ids, rows = by_hand(order, tensor, family, based=based)
            assert library(out).get_vocab() == ids
            np.testing.assert_allclose(checkpoint.read(tensor), rows, rtol=0, atol=1e-6)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(ids)


@pytest.mark.parametrize("order", list(permutations(BUILDERS)))
@pytest.mark.usefixtures("family")
def test_texts_come_back_as_from_the_base(order: tuple[str, ...]) -> None:
    out = merged(order)
    ours, base = library(out), library(Path(order[0]))
    for text in [*TEXT, "unseen wörds — and 數字", "  spaces  "]:
        before = base.decode(base.encode(text).ids)
        assert before != text or ours.decode(ours.encode(text).ids) == text
    if order[0] == "bpe":
        assert all(ours.decode(ours.encode(text).ids) == text for text in TEXT)


@pytest.mark.usefixtures("family")
def test_the_base_text_is_cut_as_before_where_the_others_cut_otherwise() -> None:
    ours, base = library(merged(("bpe", "unigram", "wordpiece"))), library(Path("bpe"))
    assert [ours.encode(text).ids for text in TEXT] == [base.encode(text).ids for text in TEXT]


@pytest.mark.usefixtures("family")
def test_a_union_is_the_same_every_time_and_says_what_it_did() -> None:
    text = "merge_method: linear\nmodels: [{model: bpe}, {model: unigram}]\nparameters: {weight: 1}\ntokenizer: union\n"
    first, second = (cuvee.make_plan(cuvee.recipe_from_text(text)) for _ in range(2))
    assert first.digest == second.digest
    assert first.vocabulary.texts == second.vocabulary.texts
    assert "tokens in common" in first.vocabulary.notes[1]
    assert "texts were encoded and decoded" in first.vocabulary.notes[2]


def test_tokens_of_a_model_that_cuts_alike_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = ("quantum entanglement of quantum states",) * 5
    with_model(tmp_path / "a", BUILDERS["bpe"], 0)
    with_model(tmp_path / "b", byte_level_bpe(other, 300, ("<|tool|>",)), 1)
    made = library(merged(("a", "b")))
    alone = library(tmp_path / "b")
    word = next(token for token in alone.encode(" quantum").tokens if len(token) > 3)
    assert word not in library(tmp_path / "a").get_vocab()
    assert word in made.encode(" quantum").tokens
    assert made.encode("x<|tool|>y").tokens == ["x", "<|tool|>", "y"]
    assert made.decode(made.encode(TEXT[0]).ids) == TEXT[0]


@pytest.mark.usefixtures("family")
def test_the_output_has_one_tokenizer_only() -> None:
    Path("bpe/vocab.json").write_text("{}")
    out = merged(("bpe", "unigram"))
    assert not (out / "vocab.json").exists()
    decoder = json.loads((out / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {entry["content"] for entry in decoder.values()} == {"<s>", "</s>", "<unk>"}


@pytest.mark.parametrize("rest", ["tokenizer: union\n", "tokenizer_source: union\n", "tokenizer: {source: union}\n"])
@pytest.mark.usefixtures("family")
def test_the_forms_of_mergekit_mean_the_same(rest: str) -> None:
    names = ("bpe", "wordpiece")
    text = "merge_method: linear\nmodels: [{model: bpe}, {model: wordpiece}]\nparameters: {weight: 1}\n"
    plain = cuvee.make_plan(cuvee.recipe_from_text(text + "tokenizer: union\n"))
    assert cuvee.make_plan(cuvee.recipe_from_text(text + rest)).digest == plain.digest, names


def test_rows_are_not_filled_from_a_tensor_that_has_another_name(family: dict[str, dict[str, np.ndarray]]) -> None:
    tied = {name: array for name, array in family["unigram"].items() if name != "lm_head.weight"}
    settings = json.loads(Path("unigram/config.json").read_text()) | {"tie_word_embeddings": True}
    for file in Path("unigram").glob("*.safetensors"):
        file.unlink()
    write_model(Path("tied"), tied, config=settings)
    (Path("tied") / "tokenizer.json").write_text(Path("unigram/tokenizer.json").read_text())
    text = "merge_method: linear\nmodels: [{model: bpe}, {model: tied}]\nparameters: {weight: 1}\ntokenizer: union\n"
    with pytest.raises(CheckpointError, match="and rows for tokens to be filled"):
        cuvee.make_plan(cuvee.recipe_from_text(text))
