"""Rows of the output: padding that survives, rules for tokens, types, tensors with other shapes, reads anywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cuvee
from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint
from cuvee.errors import CheckpointError, CuveeError, RecipeError
from cuvee.tokenizers.rows import FILLED, MEAN, AlignedCheckpoint, RowMap
from tokenizers_made import BUILDERS, byte_level_bpe, library, tokens_of, with_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TWO = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(out: Path, tensor: str = EMBEDDING) -> np.ndarray:
    with open_checkpoint(out) as checkpoint:
        return checkpoint.read(tensor).astype(np.float32)


@pytest.mark.parametrize(("first", "second"), [(12, 0), (0, 12), (12, 4), (4, 12)])
def test_padding_that_differs_is_recognised_and_the_bases_is_kept(here: Path, first: int, second: int) -> None:
    a = with_model(here / "a", BUILDERS["bpe"], 0, padding=first)
    b = with_model(here / "b", BUILDERS["bpe"], 1, padding=second)
    plan = cuvee.make_plan(cuvee.recipe_from_text(TWO))
    assert "for the same tokens as a" in plan.vocabulary.notes[0]
    out = cuvee.run_plan(plan, here / "out").folder
    for tensor in (EMBEDDING, HEAD):
        shared = min(len(a[tensor]), len(b[tensor]))
        mean = (a[tensor][:shared] + b[tensor][:shared]) / 2
        expected = np.concatenate([mean, a[tensor][shared:]])
        np.testing.assert_allclose(rows_of(out, tensor), expected, atol=1e-6)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(a[EMBEDDING])


def test_rows_that_are_tokens_are_not_taken_for_padding(here: Path) -> None:
    with_model(here / "a", BUILDERS["bpe"], 0)
    with_model(here / "c", BUILDERS["wordpiece"], 2)
    with pytest.raises(CheckpointError, match="the vocabularies differ") as caught:
        cuvee.make_plan(cuvee.recipe_from_text(TWO.replace("model: b", "model: c")))
    assert "tokens in common" in str(caught.value)
    assert "tokenizer: union" in str(caught.value)


def test_the_same_rows_for_other_tokens_are_warned_of(here: Path) -> None:
    with_model(here / "a", BUILDERS["bpe"], 0)
    other = byte_level_bpe(("quite another text that is longer than the first",) * 4, 300)
    missing = len(rows_of(here / "a")) - tokens_of(other)
    with_model(here / "c", other, 1, padding=missing)
    plan = cuvee.make_plan(cuvee.recipe_from_text(TWO.replace("model: b", "model: c")))
    assert "the tokenizers of c and a differ; rows are merged by their ids" in plan.warnings[0]


def test_the_base_tokenizer_keeps_padding_and_leaves_other_tokens_out(here: Path) -> None:
    a = with_model(here / "a", BUILDERS["bpe"], 0, padding=7)
    b = with_model(here / "b", BUILDERS["wordpiece"], 1)
    out = cuvee.merge(cuvee.recipe_from_text(TWO + "tokenizer: base\nbase_model: a\n"), here / "out").folder
    assert (out / "tokenizer.json").read_bytes() == (here / "a" / "tokenizer.json").read_bytes()
    made, ids, other = rows_of(out), library(here / "a").get_vocab(), library(here / "b").get_vocab()
    assert len(made) == len(a[EMBEDDING])
    for token, number in ids.items():
        theirs = b[EMBEDDING][other[token]] if token in other else a[EMBEDDING][number]
        np.testing.assert_allclose(made[number], (a[EMBEDDING][number] + theirs) / 2, atol=1e-6)
    np.testing.assert_array_equal(made[len(ids) :], a[EMBEDDING][len(ids) :])


def test_another_models_tokenizer_brings_its_files_and_ids(here: Path) -> None:
    with_model(here / "a", BUILDERS["bpe"], 0)
    b = with_model(here / "b", BUILDERS["wordpiece"], 1)
    config = json.loads((here / "b" / "config.json").read_text())
    (here / "b" / "config.json").write_text(json.dumps({**config, "eos_token_id": 5}))
    (here / "a" / "merges.txt").write_text("")
    out = cuvee.merge(cuvee.recipe_from_text(TWO + "tokenizer: b\nbase_model: a\n"), here / "out").folder
    assert (out / "tokenizer.json").read_bytes() == (here / "b" / "tokenizer.json").read_bytes()
    assert not (out / "merges.txt").exists()
    written = json.loads((out / "config.json").read_text())
    assert (written["vocab_size"], written["eos_token_id"]) == (len(b[EMBEDDING]), 5)


def test_another_models_tokenizer_brings_the_ends_of_its_answers(here: Path) -> None:
    for name, special in (("a", {"eos_token_id": 1, "pad_token_id": 0}), ("b", {"eos_token_id": [5, 6]})):
        with_model(here / name, BUILDERS["bpe"], 0)
        settings = {**special, "temperature": 0.5 if name == "a" else 0.9}
        (here / name / "generation_config.json").write_text(json.dumps(settings))
    out = cuvee.merge(cuvee.recipe_from_text(TWO + "tokenizer: b\nbase_model: a\n"), here / "out").folder
    written = json.loads((out / "generation_config.json").read_text())
    assert written == {"temperature": 0.5, "eos_token_id": [5, 6]}


def test_rules_for_tokens_and_a_multiple_are_kept(here: Path) -> None:
    a = with_model(here / "a", BUILDERS["bpe"], 0)
    b = with_model(here / "b", BUILDERS["wordpiece"], 1)
    ids, other = library(here / "a").get_vocab(), library(here / "b").get_vocab()
    lacking = [token for token in ids if token not in other][:2]
    rules = {
        lacking[0]: {"source": {"kind": "zero"}},
        lacking[1]: {"source": {"kind": "model_token", "model": "b", "token_id": 9}},
        "e": {"source": "b", "force": True},
        "s": {"source": {"kind": "model_token", "model": "a", "token": "t"}, "force": True},
    }
    choice = json.dumps({"source": "base", "tokens": rules, "pad_to_multiple_of": 64})
    out = cuvee.merge(cuvee.recipe_from_text(TWO + f"tokenizer: {choice}\nbase_model: a\n"), here / "out").folder
    made = rows_of(out)
    expected = {
        lacking[0]: a[EMBEDDING][ids[lacking[0]]] / 2,
        lacking[1]: (a[EMBEDDING][ids[lacking[1]]] + b[EMBEDDING][9]) / 2,
        "e": b[EMBEDDING][other["e"]],
        "s": a[EMBEDDING][ids["t"]],
    }
    for token, row in expected.items():
        np.testing.assert_allclose(made[ids[token]], row, atol=1e-6)
    assert len(made) == -(-len(ids) // 64) * 64
    theirs = np.array([b[EMBEDDING][other[t]] if t in other else a[EMBEDDING][n] for t, n in ids.items()])
    for token, row in (
        (lacking[0], 0 * made[0]),
        (lacking[1], b[EMBEDDING][9]),
        ("e", expected["e"]),
        ("s", expected["s"]),
    ):
        theirs[list(ids).index(token)] = row
    ours = np.array([a[EMBEDDING][n] for n in ids.values()])
    ours[list(ids).index("e")], ours[list(ids).index("s")] = expected["e"], expected["s"]
    np.testing.assert_allclose(made[-1], (theirs.mean(axis=0) + ours.mean(axis=0)) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("rest", "kind", "words"),
    [
        ("tokenizer: {source: union, tokens: {nonsense: {source: a}}}", RecipeError, "'a' has no token 'nonsense'"),
        ("chat_template: llama9", RecipeError, "unknown chat template 'llama9'"),
    ],
)
def test_rules_that_name_nothing_are_refused(here: Path, rest: str, kind: type[CuveeError], words: str) -> None:
    for i, name in enumerate("ab"):
        with_model(here / name, BUILDERS["wordpiece"], i)
    with pytest.raises(kind, match=words):
        cuvee.make_plan(cuvee.recipe_from_text(TWO + rest))


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("source", ["base", "union", "b"])
def test_a_token_that_no_model_has_is_added_with_the_row_that_is_named(here: Path, kind: str, source: str) -> None:
    a, _ = (with_model(here / name, BUILDERS[kind], seed, padding=3) for seed, name in enumerate("ab"))
    rules = {
        "<|new|>": {"source": {"kind": "model_token", "model": "a", "token_id": 5}},
        "<|none|>": {"source": {"kind": "zero"}},
    }
    choice = json.dumps({"source": source, "tokens": rules})
    recipe = cuvee.recipe_from_text(TWO + f"tokenizer: {choice}\nbase_model: a\n")
    warnings = cuvee.make_plan(recipe).warnings
    assert any("tokens that the vocabulary lacks are added to it: '<|new|>'" in warning for warning in warnings)
    out = cuvee.merge(recipe, here / "out").folder
    made = library(out)
    new, none = made.token_to_id("<|new|>"), made.token_to_id("<|none|>")
    np.testing.assert_allclose(rows_of(out)[new], a[EMBEDDING][5], atol=1e-6)
    assert not rows_of(out)[none].any()
    assert made.encode("<|new|>", add_special_tokens=False).ids == [new]


def test_a_model_without_a_tokenizer_cannot_be_aligned(here: Path) -> None:
    for i, name in enumerate("ab"):
        with_model(here / name, BUILDERS["wordpiece"], i)
    (here / "b" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        cuvee.make_plan(cuvee.recipe_from_text(TWO + "tokenizer: union"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("auto", "template of b for messages"),
        ("c", "template of c for messages"),
        ("'{{ messages[0].content }} and so on'", "{{ messages[0].content }} and so on"),
        ("chatml", "<|im_start|>"),
    ],
)
def test_the_chat_template_is_the_one_asked_for(here: Path, written: str, expected: str) -> None:
    for i, name in enumerate("abc"):
        with_model(here / name, BUILDERS["wordpiece"], i)
    (here / "a" / "tokenizer_config.json").write_text('{"chat_template": "template of a for messages", "x": 1}')
    (here / "b" / "chat_template.jinja").write_text("template of b for messages")
    text = TWO.replace("{model: b}", "{model: b}, {model: c}") + f"chat_template: {written}\n"
    if written == "auto":
        (here / "c" / "tokenizer_config.json").write_text('{"chat_template": "template of b for messages"}')
    out = cuvee.merge(cuvee.recipe_from_text(text), here / "out").folder
    assert expected in (out / "chat_template.jinja").read_text()
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"x": 1}


@st.composite
def alignments(draw: st.DrawFn) -> tuple[RowMap, int, int]:
    rows = draw(st.integers(1, 9))
    own = np.array(draw(st.lists(st.integers(MEAN, 5), min_size=rows, max_size=rows)))
    fill = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), max_size=3).map(tuple)
    fills = {int(n): draw(fill) for n in np.flatnonzero(own == FILLED)}
    mean = np.flatnonzero(own == MEAN)
    tokens = int(mean[0]) if len(mean) else rows
    width = draw(st.integers(1, 4))
    return RowMap(own, fills, tokens), width, rows


@given(alignments(), st.sampled_from([np.float32, np.float64]), st.data())
def test_any_stretch_of_bytes_is_that_of_the_rows_made_one_by_one(
    case: tuple[RowMap, int, int], dtype: type, data: st.DataObject
) -> None:
    rows, width, count = case
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal((6, width)).astype(kind) for kind in (np.float32, dtype)]
    aligned = AlignedCheckpoint([MemoryCheckpoint({EMBEDDING: a}) for a in arrays], 0, rows, frozenset({EMBEDDING}))
    spec = aligned.tensors[EMBEDDING]
    made = np.zeros((count, width))
    for number in range(count):
        if rows.own[number] >= 0:
            made[number] = arrays[0][rows.own[number]]
        elif rows.own[number] == FILLED and rows.fills[number]:
            made[number] = np.mean([arrays[m][r].astype(np.float64) for m, r in rows.fills[number]], axis=0)
    for number in np.flatnonzero(rows.own == MEAN):
        made[number] = made[: rows.tokens].mean(axis=0) if rows.tokens else 0
    expected = made.astype(np.float64 if spec.dtype == "F64" else np.float32)
    raw = expected.tobytes()
    start = data.draw(st.integers(0, len(raw) - 1))
    end = data.draw(st.integers(start + 1, len(raw)))
    out = np.empty(end - start, np.uint8)
    cut = data.draw(st.integers(0, end - start))
    aligned.read_into(EMBEDDING, start, [out[:cut], out[cut:]])
    assert spec.shape == (count, width)
    if not (rows.own == MEAN).any():
        assert out.tobytes() == raw[start:end]
    whole = np.empty(len(raw), np.uint8)
    aligned.read_into(EMBEDDING, 0, [whole])
    np.testing.assert_allclose(whole.view(expected.dtype).reshape(count, width), expected, rtol=1e-5, atol=1e-6)
    assert out.tobytes() == whole.tobytes()[start:end]


def test_biases_of_the_head_are_aligned_too() -> None:
    bias = np.arange(6, dtype=np.float32)
    for shape in ((6,), (1, 6)):
        source = MemoryCheckpoint({"final_logits_bias": bias.reshape(shape)})
        rows = RowMap(np.array([5, 0, FILLED]), {2: ()}, 3)
        aligned = AlignedCheckpoint([source], 0, rows, frozenset({"final_logits_bias"}))
        out = np.empty(12, np.uint8)
        aligned.read_into("final_logits_bias", 0, [out])
        assert aligned.tensors["final_logits_bias"].shape == (*shape[:-1], 3)
        assert out.view(np.float32).tolist() == [5, 0, 0]
