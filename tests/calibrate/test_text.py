"""Texts: what is read, where answers begin, what is refused."""

import json
from pathlib import Path

import pytest

from cuvee import demo
from cuvee.calibrate.text import Text, read_text, warnings_of
from cuvee.errors import CuveeError, EvaluationError, RecipeError
from cuvee.evaluation.model import LanguageModel, load_model
from evaluation.conftest import byte_tokenizer, save_model

TURNS = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
CHAT = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    return load_model(save_model(tmp_path_factory.mktemp("model") / "bytes", tokenizer), device="cpu")


def decoded(model: LanguageModel, text: Text, document: int = 0) -> tuple[str, str]:
    """Return a document as its question and its answer."""
    own = text.documents[document]
    return model.tokenizer.decode(own.ids[: own.answer_from]), model.tokenizer.decode(own.ids[own.answer_from :])


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_paragraphs_of_a_text_file_are_documents(tmp_path: Path, model: LanguageModel) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\none\ntwo\n\n \nthree\n", encoding="utf-8")
    text = read_text(str(file), model)
    assert [decoded(model, text, number) for number in (0, 1)] == [("<s>one\ntwo", ""), ("<s>three", "")]
    assert not text.has_answers


def test_rows_are_text_or_messages_or_questions_with_answers(tmp_path: Path, model: LanguageModel) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}
    text = read_text(write(tmp_path / "t.jsonl", {"text": "a"}, chat, {"input": "q", "target": "r"}), model)
    assert decoded(model, text, 0) == ("<s>a", "")
    assert decoded(model, text, 1) == ("<user>hi<assistant>", "yes")
    assert decoded(model, text, 2) == ("<s>q", " r")


def test_a_task_gives_its_questions_with_the_right_answers(model: LanguageModel) -> None:
    text = read_text("sort", model)
    question, answer = decoded(model, text)
    assert question.startswith("<s>Sort:")
    assert sorted(answer.split()) == answer.split()


def test_positions_of_an_answer_are_those_that_predict_it(tmp_path: Path, model: LanguageModel) -> None:
    (own,) = read_text(write(tmp_path / "t.jsonl", {"input": "q", "target": "r"}), model).documents
    assert own.positions("all") == [True] * 4  # <s> q, space, r
    assert own.positions("answer") == [False, True, True, False]
    assert own.positions("prompt") == [True, False, False, True]


def test_documents_are_cut_and_end_with_the_tokens_asked_for(tmp_path: Path, model: LanguageModel) -> None:
    place = write(tmp_path / "t.jsonl", *({"input": "a" * 20, "target": "b"} for _ in range(5)))
    text = read_text(place, model, tokens=20, length=8)
    assert [len(document.ids) for document in text.documents] == [8, 8, 8]
    assert not text.has_answers


@pytest.mark.parametrize("place", ["sort-private", str(demo.task_file("sort-private"))])
def test_the_private_part_of_a_task_is_refused(place: str, model: LanguageModel) -> None:
    with pytest.raises(RecipeError, match="private part"):
        read_text(place, model)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": "a"}, "a row holds words"),
        ([1], "expected a JSON object"),
        ({"input": "a", "target": 3}, "a row holds input, target 3"),
        ({"text": None}, "a row holds text null"),
        ({"text": "cut \ud83d"}, "half of a character"),
        ({"messages": "hi"}, 'a row holds messages "hi"'),
    ],
)
def test_rows_of_another_kind_are_refused_with_their_line(
    tmp_path: Path, model: LanguageModel, row: object, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message) as error:
        read_text(write(tmp_path / "t.jsonl", {"text": "a"}, row), model)
    assert error.value.where is not None
    assert error.value.where.endswith("t.jsonl:2")


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path: Path, model: LanguageModel) -> None:
    (tmp_path / "empty.txt").touch()
    for name in ("none.txt", "empty.txt", "none.jsonl"):
        with pytest.raises(CuveeError):
            read_text(str(tmp_path / name), model)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl.gz", "words", "folder"])
def test_files_of_other_forms_are_not_taken_for_tasks(name: str, tmp_path: Path, model: LanguageModel) -> None:
    place = tmp_path / name
    if name == "folder":
        place.mkdir()
    else:
        place.write_text("words")
    with pytest.raises(EvaluationError) as error:
        read_text(str(place), model)
    assert error.value.where == str(place)
    assert "expected a .txt, a .jsonl" in str(error.value.hint)


def test_a_bundled_task_is_found_beside_a_folder_of_its_name(
    tmp_path: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sort").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_text("sort", model).has_answers


def test_empty_documents_of_a_tokenizer_without_a_start_are_left_out(tmp_path: Path) -> None:
    bare = load_model(save_model(tmp_path / "bare", byte_tokenizer(start=False)), device="cpu")
    rows = {"text": ""}, {"text": "ab"}, {"input": "", "target": ""}
    text = read_text(write(tmp_path / "t.jsonl", *rows), bare)
    assert [len(document.ids) for document in text.documents] == [2, 1]  # the last one is the space between
    with pytest.raises(EvaluationError, match="no document"):
        read_text(write(tmp_path / "empty.jsonl", {"text": ""}), bare)


def test_each_text_that_several_experts_have_is_warned_of(tmp_path: Path, model: LanguageModel) -> None:
    one, other = (read_text(write(tmp_path / f"{word}.jsonl", {"text": word}), model) for word in ("a", "b"))
    warnings = warnings_of({"first": one, "second": other, "third": one}, "all")
    assert [warning.partition(":")[0] for warning in warnings if "same" in warning] == [
        "first and third have the same text"
    ]


def test_a_book_in_one_piece_is_warned_of(tmp_path: Path, model: LanguageModel) -> None:
    (tmp_path / "book.txt").write_text("abcd " * 100, encoding="utf-8")
    whole, parted = (read_text(str(tmp_path / "book.txt"), model, length=length) for length in (20, 1000))
    assert (whole.tokens, parted.unread) == (20, 0)
    assert whole.unread == parted.tokens - 20
    (warning,) = (each for each in warnings_of({"one": whole}, "all") if "is cut" in each)
    assert warning.startswith(f"one: 20 of {parted.tokens} tokens of ")
    assert not any("is cut" in each for each in warnings_of({"one": parted}, "all"))


def test_doubtful_texts_are_warned_of(tmp_path: Path, model: LanguageModel) -> None:
    small = read_text(write(tmp_path / "t.jsonl", {"text": "a"}), model)
    found = warnings_of({"one": small, "two": small}, "all")
    assert any("256 at least" in warning for warning in found)
    assert any("no answers" in warning for warning in found)
    assert any("same text" in warning for warning in found)
