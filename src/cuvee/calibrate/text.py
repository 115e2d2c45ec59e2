"""Texts that calibrate a merge: read from files or tasks, tokenised as the model reads them, never joined or padded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from blake3 import blake3

from cuvee import demo
from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation.load import load_task
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.rows import check_characters
from cuvee.evaluation.task import Task
from cuvee.evaluation.turns import chat_text
from cuvee.nearest import nearest

Positions = Literal["all", "answer", "prompt"]
Row = Mapping[str, Any]

TASK_KEYS = ("input", "target")
READ_KEYS = ("text", "messages", *TASK_KEYS)
ROW_HINT = "expected a string as text, or a list of messages, or strings as input and target"
TASK_SUFFIXES = (".yaml", ".yml", ".csv", ".jsonl")
MOST_SHOWN_CHARACTERS = 60
FEWEST_POSITIONS = 256
"""Below this many positions a text says too little about a model."""


class Reader(Protocol):
    """Turns text into tokens as a model is used to: `cuvee.evaluation.model.LanguageModel` does."""

    @property
    def tokenizer(self) -> Any: ...
    @property
    def encoder_decoder(self) -> bool: ...
    def render(self, prompt: Prompt, text: str, choices: Sequence[str] = ()) -> str: ...
    def encode(self, texts: Sequence[str], *, chat: bool = False) -> list[list[int]]: ...


@dataclass(frozen=True)
class Document:
    """One text as token ids. Tokens from `answer_from` on are the answer; it is their number where there is none.

    An encoder reads those before `answer_from`, and the decoder after it writes the others.
    """

    ids: tuple[int, ...]
    answer_from: int

    def positions(self, wanted: Positions) -> list[bool]:
        """Say for each token whether it counts. `answer` are the tokens from which an answer's tokens are predicted."""
        if wanted == "all":
            return [True] * len(self.ids)
        predicts = [self.answer_from <= place + 1 < len(self.ids) for place in range(len(self.ids))]
        return predicts if wanted == "answer" else [not answer for answer in predicts]


@dataclass(frozen=True)
class Text:
    """The documents of one model, in the order of their file; `unread` tokens of them lie behind the cut."""

    name: str
    documents: tuple[Document, ...]
    unread: int = 0

    @property
    def tokens(self) -> int:
        return sum(len(document.ids) for document in self.documents)

    def counted(self, wanted: Positions) -> int:
        """Return how many positions count."""
        return sum(sum(document.positions(wanted)) for document in self.documents)

    @property
    def digest(self) -> str:
        """BLAKE3 of the token ids and of where answers begin."""
        content = [[document.ids, document.answer_from] for document in self.documents]
        return blake3(json.dumps(content).encode()).hexdigest()

    @property
    def has_answers(self) -> bool:
        return any(document.answer_from < len(document.ids) for document in self.documents)


def read_text(place: str, reader: Reader, *, tokens: int = 65536, length: int = 512) -> Text:
    """Read documents in file order until `tokens` tokens are reached, each cut to `length` tokens.

    Where an encoder reads the prompts, prompt and answer are cut by themselves, and each document must have an answer.

    `place` is a `.txt` whose documents are parted by blank lines; a `.jsonl` whose rows hold `text`, or `messages`, or
    `input` and `target`; a `task.yaml`; or the name of a bundled task. A task's private part is refused.
    Raises RecipeError for a private part, EvaluationError for files that cannot be read.
    """
    documents: list[Document] = []
    seen = unread = 0
    for number, (ids, answer_from) in enumerate(_tokenised(place, reader), start=1):
        if reader.encoder_decoder:
            document = _two_sided(ids[:answer_from], ids[answer_from:], length, f"{place}: document {number}")
        elif not ids:
            continue  # an empty text, for a tokenizer that begins with no token
        else:
            cut = ids[:length]
            document = Document(tuple(cut), min(answer_from, len(cut)))
        documents.append(document)
        seen += len(document.ids)
        unread += len(ids) - len(document.ids)
        if seen >= tokens:
            break
    if not documents:
        raise EvaluationError("there is no document in it", where=place)
    return Text(place, tuple(documents), unread)


def _two_sided(prompt: list[int], answer: list[int], length: int, where: str) -> Document:
    if not prompt or not answer:
        missing = "answer" if prompt else "prompt"
        raise EvaluationError(
            f"it has no {missing}; the model's encoder reads a prompt, and its decoder writes the answer",
            where=where,
            hint="give rows of input and target, a task with targets, or chats that end with the assistant",
        )
    return Document((*prompt[:length], *answer[:length]), len(prompt[:length]))


def _tokenised(place: str, reader: Reader) -> Iterator[tuple[list[int], int]]:
    path = Path(place)
    if path.suffix == ".txt":
        for document in _paragraphs(path):
            yield _whole(document, reader)
    elif path.suffix == ".jsonl" and not _holds_task(path):
        for where, row in _rows(path):
            yield _of_row(row, where, reader)
    else:
        _check_form(path)
        yield from _of_task(_public_task(place), reader)


def _check_form(path: Path) -> None:
    """Raise EvaluationError for a file or folder that is neither text nor task. A bundled task's name goes first."""
    is_task = path.suffix in TASK_SUFFIXES or str(path) in demo.task_names()
    if is_task or not path.exists():
        return
    message = "this is a folder" if path.is_dir() else "cannot read a text from a file with such an ending"
    hint = "expected a .txt, a .jsonl, a task's .yaml or .csv, or the name of a bundled task"
    raise EvaluationError(message, where=str(path), hint=hint)


def _whole(text: str, reader: Reader) -> tuple[list[int], int]:
    (ids,) = reader.encode([text])
    return ids, len(ids)


def _paragraphs(path: Path) -> list[str]:
    lines = _read(path).splitlines()
    documents: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            documents[-1].append(line)
        elif documents[-1]:
            documents.append([])
    return ["\n".join(document) for document in documents if document]


def _read(path: Path) -> str:
    if not path.is_file():
        hint = nearest(str(path), suffixes=(".txt", ".jsonl", ".yaml"))
        raise EvaluationError("there is no such file", where=str(path), hint=hint)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EvaluationError(f"not UTF-8: {error}", where=str(path)) from error


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"not a line of JSON: {error}", where=where) from error
        if not isinstance(row, dict):
            raise EvaluationError("expected a JSON object", where=where)
        check_characters(row, where)
        yield where, row


def _holds_task(path: Path) -> bool:
    """Say whether the first row is an item of a task."""
    first = next(_rows(path), ("", {}))[1]
    return all(key in first for key in (*TASK_KEYS, "eval_type"))


def _of_row(row: Row, where: str, reader: Reader) -> tuple[list[int], int]:
    if isinstance(row.get("text"), str):
        return _whole(row["text"], reader)
    if isinstance(row.get("messages"), list):
        return _of_chat(row["messages"], where, reader)
    if all(isinstance(row.get(key), str) for key in TASK_KEYS):
        return _answered(row["input"], " ", row["target"], reader)
    raise EvaluationError(f"a row holds {_in_words(row)}", where=where, hint=ROW_HINT)


def _in_words(row: Row) -> str:
    """Name the content of a row, and that of the keys that are read in place of text."""
    words = []
    for key in sorted(row):
        wanted = list if key == "messages" else str
        wrong = key in READ_KEYS and not isinstance(row[key], wanted)
        shown = json.dumps(row[key])[:MOST_SHOWN_CHARACTERS]
        words.append(f"{key} {shown}" if wrong else key)
    return ", ".join(words) or "nothing"


def _of_chat(messages: list[Any], where: str, reader: Reader) -> tuple[list[int], int]:
    """Render a chat by the model's own template. The last turn is the answer if the assistant says it."""
    tokenizer = reader.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise EvaluationError("rows hold messages, and the model's tokenizer has no chat template", where=where)
    are_turns = all(isinstance(turn, Mapping) for turn in messages)
    if not messages or not are_turns:
        raise EvaluationError("messages are no list of turns", where=where, hint=ROW_HINT)
    whole = chat_text(tokenizer, messages, where, asks=False)
    asked = None
    if messages[-1].get("role") == "assistant":
        asked = chat_text(tokenizer, messages[:-1], where, asks=True)
    if asked is None or not whole.startswith(asked):
        (ids,) = reader.encode([whole], chat=True)
        return ids, len(ids)
    return _answered(asked, "", whole[len(asked) :], reader, chat=True)


def _answered(asked: str, separator: str, answer: str, reader: Reader, *, chat: bool = False) -> tuple[list[int], int]:
    """Tokenise question and answer as one text; the answer begins with the first token that the question has not.

    Where an encoder reads the question, the two are tokenised by themselves, without a separator.
    """
    if reader.encoder_decoder:
        (prompt,), (target,) = reader.encode([asked], chat=chat), reader.encode([answer], chat=chat)
        return [*prompt, *target], len(prompt)
    question, whole = reader.encode([asked, asked + separator + answer], chat=chat)
    common = 0
    while common < min(len(question), len(whole)) and question[common] == whole[common]:
        common += 1
    return whole, common


def _public_task(place: str) -> Task:
    task = load_task(place)
    if task.name.endswith("-private") or Path(place).stem.endswith("-private"):
        hint = f"use the public part: {place.replace('-private', '', 1)}"
        raise RecipeError(
            "this is the private part of a task, which only the final score may see", where=place, hint=hint
        )
    return task


def _of_task(task: Task, reader: Reader) -> Iterator[tuple[list[int], int]]:
    for sample in task.samples:
        asked = reader.render(task.prompt, sample.input, sample.choices)
        chat = task.prompt.chat_template
        if sample.target is None:
            (ids,) = reader.encode([asked], chat=chat)
            yield ids, len(ids)
        else:
            yield _answered(asked, task.prompt.separator, sample.text_of(sample.target), reader, chat=chat)


def warnings_of(texts: Mapping[str, Text], wanted: Positions) -> list[str]:
    """Return the doubts about a repair: too little text, or little of it read, one for all experts, no answers."""
    found = []
    for expert, text in texts.items():
        positions = text.counted(wanted)
        if positions < FEWEST_POSITIONS:
            found.append(f"{expert}: {positions} positions of text; {FEWEST_POSITIONS} at least say enough")
        cut = cut_warning(text.name, text.tokens, text.unread)
        if cut:
            found.append(f"{expert}: {cut}")
        if not text.has_answers:
            found.append(
                f"{expert}: its text has no answers; what it does not show, chat and answer format, may be lost"
            )
    return found + _same_texts(texts)


def cut_warning(name: str, tokens: int, unread: int) -> str:
    """Say that most of a text lies behind the cut of its documents, as of a book in one piece; "" if it does not."""
    if unread <= tokens:
        return ""
    return (
        f"{tokens} of {tokens + unread} tokens of {name} are read, since each document is cut; "
        "part long ones by blank lines or into rows, or raise the length"
    )


def _same_texts(texts: Mapping[str, Text]) -> list[str]:
    """Warn of each text that several experts have."""
    experts: dict[str, list[str]] = {}
    for expert, text in texts.items():
        experts.setdefault(text.digest, []).append(expert)
    advice = "that is worse than none; give each the text of its own skill"
    return [f"{' and '.join(names)} have the same text: {advice}" for names in experts.values() if len(names) > 1]
