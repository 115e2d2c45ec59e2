"""A model with more or fewer rows: each token keeps its own, new ones begin as asked, and the tokenizer knows them."""

import json
from pathlib import Path

import numpy as np
import pytest

from cuvee.checkpoint import open_checkpoint
from cuvee.cli import main
from cuvee.engine.resize import Resizing, resize_vocabulary
from cuvee.errors import RecipeError
from tokenizers_made import BUILDERS, library, with_model

TENSORS = ("model.embed_tokens.weight", "lm_head.weight")
PADDING = 5


@pytest.fixture(params=["bpe", "unigram", "wordpiece"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with_model(tmp_path / "model", BUILDERS[request.param], 0, padding=PADDING)
    return tmp_path / "model"


def rows(folder: Path, name: str) -> np.ndarray:
    with open_checkpoint(folder) as checkpoint:
        return checkpoint.read(name)


def tokens(folder: Path) -> int:
    return library(folder).get_vocab_size()


def test_new_tokens_begin_as_asked_and_the_others_keep_their_rows(model: Path, tmp_path: Path) -> None:
    count, other = tokens(model), next(iter(library(model).get_vocab()))
    how = Resizing({"<zero>": "zero", "<mean>": "mean", "<a=b>": other}, special=True)
    out = resize_vocabulary(model, tmp_path / "out", how).folder
    vocabulary = library(out).get_vocab()
    for name in TENSORS:
        before, after = rows(model, name), rows(out, name)
        assert len(after) == len(before)  # the padding has room for three
        np.testing.assert_array_equal(after[:count], before[:count])
        assert not after[vocabulary["<zero>"]].any()
        np.testing.assert_allclose(after[vocabulary["<mean>"]], before[:count].mean(axis=0), atol=1e-6)
        np.testing.assert_array_equal(after[vocabulary["<a=b>"]], before[vocabulary[other]])
    assert library(out).encode("<mean>", add_special_tokens=False).ids == [vocabulary["<mean>"]]
    assert "<mean>" not in library(out).decode([vocabulary["<mean>"]])


@pytest.mark.parametrize(("multiple", "drop_padding"), [(64, False), (None, True), (16, True)])
def test_padding_becomes_what_was_asked_for(
    multiple: int | None, drop_padding: bool, model: Path, tmp_path: Path
) -> None:
    count = tokens(model)
    out = resize_vocabulary(model, tmp_path / "out", Resizing(multiple=multiple, drop_padding=drop_padding)).folder
    least, step = count + (0 if drop_padding else PADDING), multiple or 1
    expected = -(-least // step) * step
    assert json.loads((out / "config.json").read_text())["vocab_size"] == expected
    for name in TENSORS:
        before, after = rows(model, name), rows(out, name)
        assert len(after) == expected
        kept = min(len(before), expected)
        np.testing.assert_array_equal(after[:kept], before[:kept])
    assert tokens(out) == count


def test_what_was_added_can_be_dropped_no_more_and_padding_comes_back_the_same(model: Path, tmp_path: Path) -> None:
    how = Resizing({"<new>": "mean"}, multiple=8)
    first = resize_vocabulary(model, tmp_path / "first", how).folder
    again = resize_vocabulary(model, tmp_path / "again", how).folder
    assert all((rows(first, name) == rows(again, name)).all() for name in TENSORS)
    with pytest.raises(RecipeError, match="has the token '<new>' already"):
        resize_vocabulary(first, tmp_path / "x", how)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--add", "x"], "expected TOKEN=START"),
        (["--add", "<x>=nowhere at all"], "which is no token of the model"),
        (["--add", "=zero"], "expected the text of a token"),
        ([], "nothing would change"),
    ],
)
def test_mistakes_are_told(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_model(tmp_path / "model", BUILDERS["bpe"], 0)
    monkeypatch.setattr(
        "sys.argv", ["cuvee", "tokenizer", "resize", str(tmp_path / "model"), str(tmp_path / "x"), *words]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_transformers_loads_the_result(model: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    out = resize_vocabulary(model, tmp_path / "out", Resizing({"<new>": "zero"}, multiple=32)).folder
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert loaded.get_input_embeddings().weight.shape[0] == loaded.config.vocab_size
    assert loaded.config.vocab_size % 32 == 0
    assert loaded.config.vocab_size >= tokens(out)
