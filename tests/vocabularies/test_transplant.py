"""A model with another's tokenizer: shared rows copied, the others by matching pursuit or by subwords."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.checkpoint import open_checkpoint
from cuvee.cli import main
from cuvee.engine.transplant import transplant
from cuvee.errors import CheckpointError
from cuvee.plan.resolve import FoundModel
from cuvee.tokenizers.read import read_tokenizer
from cuvee.tokenizers.transplant import coefficients, text_of
from cuvee.verify import verify
from tokenizers_made import BUILDERS, byte_level_bpe, library, with_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Weights = dict[str, np.ndarray]


def at(place: Path) -> FoundModel:
    return FoundModel(str(place), place)


def read(out: Path, name: str = EMBEDDING) -> np.ndarray:
    with open_checkpoint(out) as checkpoint:
        return checkpoint.read(name)


def pursue(target: np.ndarray, atoms: np.ndarray, k: int) -> tuple[list[int], np.ndarray]:
    """Orthogonal matching pursuit as a textbook has it: least squares from scratch in every step."""
    chosen: list[int] = []
    amounts = np.zeros(0)
    residual = target
    while len(chosen) < k and np.linalg.norm(residual) > 1e-6 * np.linalg.norm(target):
        products = np.abs(atoms @ residual)
        products[chosen] = -1
        chosen.append(int(products.argmax()))
        amounts = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
        residual = target - amounts @ atoms[chosen]
    return chosen, amounts


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 20), st.integers(1, 8), st.integers(1, 5))
def test_matching_pursuit_is_that_of_the_textbook(seed: int, k: int, atoms: int, width: int, targets: int) -> None:
    generator = np.random.default_rng(seed)
    dictionary, wanted = generator.standard_normal((atoms, width)), generator.standard_normal((targets, width))
    chosen, amounts = coefficients(wanted, dictionary, k)
    for row in range(targets):
        places, expected = pursue(wanted[row], dictionary, min(k, atoms, width))
        assert chosen[row, : len(places)].tolist() == places
        np.testing.assert_allclose(amounts[row, : len(places)], expected, rtol=1e-6, atol=1e-8)
        assert not amounts[row, len(places) :].any()


def test_the_corners_of_matching_pursuit() -> None:
    atoms = np.array([[1.0, 0, 0], [2, 0, 0], [0, 1, 0]])
    chosen, amounts = coefficients(np.array([[0.0, 0, 0], [4, 0, 0], [1, 1, 5]]), atoms, 3)
    assert not amounts[0].any()
    assert (chosen[1, 0], amounts[1].tolist()) == (1, [2, 0, 0])
    np.testing.assert_allclose((amounts[2][:, None] * atoms[chosen[2]]).sum(axis=0), [1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("method", ["omp", "subword"])
def test_its_own_tokenizer_changes_nothing(family: dict[str, Weights], tmp_path: Path, method: str) -> None:
    made = transplant(at(tmp_path / "bpe"), at(tmp_path / "bpe"), tmp_path / "out", method=method)  # type: ignore[arg-type]
    for name, array in family["bpe"].items():
        np.testing.assert_array_equal(read(made.folder, name), array)


def test_shared_tokens_keep_their_rows_and_others_are_pursued(family: dict[str, Weights], tmp_path: Path) -> None:
    out = transplant(at(tmp_path / "unigram"), at(tmp_path / "wordpiece"), tmp_path / "out", k=5).folder
    own, donor = library(tmp_path / "unigram").get_vocab(), library(tmp_path / "wordpiece").get_vocab()
    twins = {token: f"▁{token}" for token in donor if not token.startswith(("##", "[", "<"))}
    twins |= {token: token[2:] for token in donor if token.startswith("##")} | {"<s>": "<s>"}
    shared = [token for token in sorted(donor, key=donor.__getitem__) if twins.get(token) in own]
    lacking = [token for token in donor if token not in shared]
    assert len(shared) > 20
    assert len(lacking) > 20
    assert "<s>" in shared
    for name in (EMBEDDING, HEAD):
        made, ours, theirs = read(out, name), family["unigram"][name], family["wordpiece"][name].astype(np.float64)
        atoms = theirs[[donor[token] for token in shared]]
        for token in shared:
            np.testing.assert_array_equal(made[donor[token]], ours[own[twins[token]]])
        for token in lacking[:20]:
            places, amounts = pursue(theirs[donor[token]], atoms, 5)
            rows = ours[[own[twins[shared[place]]] for place in places]]
            np.testing.assert_allclose(made[donor[token]], amounts @ rows, atol=1e-5)
    assert (out / "tokenizer.json").read_text() == BUILDERS["wordpiece"]
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(donor)
    np.testing.assert_array_equal(read(out, "model.norm.weight"), family["unigram"]["model.norm.weight"])


def test_subwords_are_the_mean_of_the_pieces(family: dict[str, Weights], tmp_path: Path) -> None:
    out = transplant(at(tmp_path / "bpe"), at(tmp_path / "unigram"), tmp_path / "out", method="subword").folder
    own, donor = library(tmp_path / "bpe"), library(tmp_path / "unigram").get_vocab()
    made, ours = read(out), family["bpe"][EMBEDDING]
    reader = read_tokenizer(tmp_path / "unigram")
    whole = {reader.ids[token]: text_of(token, reader) for token in reader.tokens}
    seen = 0
    for token, number in donor.items():
        text = whole[number]
        if text is None:
            expected = ours.mean(axis=0)
        else:
            pieces = own.encode(text).ids
            expected = ours[pieces].mean(axis=0)
            seen += len(pieces) > 1
        if token not in ("<s>", "</s>", "<unk>"):
            np.testing.assert_allclose(made[number], expected, atol=1e-6)
    assert seen > 5


def test_special_tokens_are_matched_by_their_role(tmp_path: Path) -> None:
    for name, content, end in (("a", BUILDERS["bpe"], "<|endoftext|>"), ("b", BUILDERS["unigram"], "</s>")):
        with_model(tmp_path / name, content, 0)
        config = json.loads((tmp_path / name / "config.json").read_text())
        number = library(tmp_path / name).token_to_id(end)
        (tmp_path / name / "config.json").write_text(
            json.dumps({**config, "eos_token_id": number, "bos_token_id": None})
        )
    out = transplant(at(tmp_path / "a"), at(tmp_path / "b"), tmp_path / "out").folder
    ends = [library(tmp_path / name).token_to_id(end) for name, end in (("a", "<|endoftext|>"), ("b", "</s>"))]
    np.testing.assert_array_equal(read(out)[ends[1]], read(tmp_path / "a")[ends[0]])
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == ends[1]


def test_tokenizers_without_a_common_token_are_refused(tmp_path: Path) -> None:
    with_model(tmp_path / "a", BUILDERS["wordpiece"], 0)
    with_model(tmp_path / "b", byte_level_bpe(("多",), 257, ()), 1)
    content = json.loads((tmp_path / "b" / "tokenizer.json").read_text())
    content["model"]["vocab"] = {"多多": 0}
    content["model"]["merges"], content["added_tokens"] = [], []
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="no token in common"):
        transplant(at(tmp_path / "a"), at(tmp_path / "b"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("family")
def test_the_commands_show_and_do_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_model(tmp_path / "padded", BUILDERS["bpe"], 3, padding=9)
    assert run(monkeypatch, "tokenizer", "compare", "bpe", "padded", "wordpiece") == 0
    said = capsys.readouterr().out
    assert "padded is equal: against bpe, the same tokens" in said
    assert "wordpiece is overlapping" in said
    assert run(monkeypatch, "tokenizer", "compare", "bpe", "padded", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found[1]["against"]["relation"], found[1]["padding"], found[1]["kind"]) == ("equal", 9, "BPE over bytes")
    assert run(monkeypatch, "tokenizer", "transplant", "bpe", "unigram", "out", "--method", "subword") == 0
    assert (tmp_path / "out" / "cuvee.json").exists()
    assert run(monkeypatch, "tokenizer", "transplant", "bpe", "unigram", "more", "--method", "magic") == 2
    assert run(monkeypatch, "tokenizer", "compare", "bpe") == 2


def test_the_cards_command_makes_the_transplant_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, licence in (("bpe", "apache-2.0"), ("unigram", "mit")):
        with_model(tmp_path / name, BUILDERS[name], 0)
        (tmp_path / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    first = transplant(FoundModel("bpe", Path("bpe")), FoundModel("unigram", Path("unigram")), Path("out"), k=7)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "- `bpe`, apache-2.0; fingerprint of sampled contents" in text
    assert "- `unigram`, mit; fingerprint of sampled contents" in text
    command = text.partition("Make it again with `cuvee ")[2].partition("`")[0]
    assert command == "tokenizer transplant bpe unigram OUT --k 7"
    monkeypatch.setattr(sys, "argv", ["cuvee", *command.replace("OUT", "again").split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert f"weights digest {first.digest}" in capsys.readouterr().out
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_verify_finds_a_swapped_donor_of_a_tokenizer(tmp_path: Path) -> None:
    for name in ("bpe", "unigram"):
        with_model(tmp_path / name, BUILDERS[name], 0)
    out = transplant(at(tmp_path / "bpe"), at(tmp_path / "unigram"), tmp_path / "out").folder
    states = [{check.name: check.state for check in verify(out).checks}]
    shutil.rmtree(tmp_path / "unigram")
    with_model(tmp_path / "unigram", BUILDERS["unigram"], 1)
    states.append({check.name: check.state for check in verify(out).checks})
    assert [state["parents"] for state in states] == ["passed", "failed"]
    assert [state["shapes"] for state in states] == ["skipped", "skipped"]
