"""Rows of a task file: strict reading of CSV and JSON lines into samples.

Nothing is guessed: cells stay the strings they are, numbers in JSON keep their digits, and whitespace stays. `where` in
an error is the line on which the row starts.
"""

import ast
import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

from cuvee.errors import EvaluationError, closest, several
from cuvee.evaluation.task import EvalType, Sample

COLUMNS = ("id", "input", "eval_type", "answer_choices", "target", "second")
REQUIRED = ("id", "input", "eval_type")
EVAL_TYPES = ("multiple_choice", "generation", "similarity", "text")
ABSENT = ("", "None")
MAX_CHOICES_CHARACTERS = 100_000  # the literal parser is recursive: longer text can exhaust the stack
MAX_FIELD_CHARACTERS = 16 * 2**20  # the csv module's own limit of 131072 is less than a long document
MAX_SHOWN = 50
PIECE_CHARACTERS = 2000
_HALF = re.compile("[\ud800-\udfff]")

Row = dict[str, object]
T = TypeVar("T")


def read_samples(path: Path) -> tuple[Sample, ...]:
    """Read a `.csv` or `.jsonl` file. Raises all its problems together, also for a file without rows.

    A `.txt` file is cut into texts of about PIECE_CHARACTERS at the ends of its lines.
    """
    if path.suffix == ".txt":
        return _pieces(path)
    read = _csv_rows if path.suffix == ".csv" else _jsonl_rows
    problems: list[EvaluationError] = []
    samples: dict[str, Sample] = {}
    ways: dict[str, str] = {}
    for where, row in read(path):
        sample, row_problems = _sample(where, row)
        if sample and sample.eval_type == "multiple_choice":
            ways[where] = _way(row.get("target"), sample.choices)
        if sample and sample.id in samples:
            row_problems = [EvaluationError(f"id '{sample.id}' appears twice", where=where)]
        if sample:
            samples.setdefault(sample.id, sample)
        problems += row_problems
    problems += _doubtful(ways)
    if problems:
        raise several(_first(problems))
    if not samples:
        raise EvaluationError("no rows", where=str(path))
    return tuple(samples.values())


def _first(problems: list[EvaluationError]) -> list[EvaluationError]:
    more = len(problems) - MAX_SHOWN
    return problems if more <= 0 else [*problems[:MAX_SHOWN], EvaluationError(f"and {more} more problems")]


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_columns(header, f"{path}:1")
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield f"{path}:{line}", _named(header, cells, f"{path}:{line}")
                line = reader.line_num + 1
    except csv.Error as error:
        raise EvaluationError(f"not a CSV row: {error}", where=f"{path}:{line}") from error
    except UnicodeDecodeError as error:
        raise EvaluationError(f"not UTF-8: {error}", where=str(path)) from error


def _named(header: list[str], cells: list[str], where: str) -> Row:
    if len(cells) != len(header):
        raise EvaluationError(f"{len(cells)} cells, but the header names {len(header)} columns", where=where)
    return dict(zip(header, cells, strict=True))


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise EvaluationError(f"not UTF-8: {error}", where=str(path)) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}:{number}", _json_row(line, f"{path}:{number}")


def _json_row(line: str, where: str) -> Row:
    try:
        row = _json(line)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"not a line of JSON: {error}", where=where) from error
    if not isinstance(row, dict):
        raise EvaluationError("expected a JSON object", where=where)
    check_characters(row, where)
    _check_columns(list(row), where)
    return row


def check_characters(row: object, where: str) -> None:
    """Raise EvaluationError for half of a character, which only an escape of JSON can write; no tokenizer reads it."""
    half = _HALF.search(json.dumps(row, ensure_ascii=False))
    if half:
        message = f"\\u{ord(half[0]):04x} is half of a character"
        raise EvaluationError(message, where=where, hint="a text was cut within a character: leave the half out")


def _json(text: str) -> object:
    """Parse JSON with numbers kept as they are written."""
    return cast(
        object,
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant, object_pairs_hook=_without_twins),
    )


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"'{name}' is written twice")
    return dict(pairs)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _check_columns(names: list[str], where: str) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in names]
    repeated = [name for name in COLUMNS if names.count(name) > 1]
    problems = [_unknown_column(name, where) for name in unknown]
    problems += [EvaluationError(f"no column '{name}'", where=where) for name in missing]
    problems += [EvaluationError(f"column '{name}' twice", where=where) for name in repeated]
    if problems:
        raise several(problems)


def _unknown_column(name: str, where: str) -> EvaluationError:
    guess = closest(name.strip().lower(), COLUMNS)
    hint = f"did you mean '{guess}'?" if guess else f"known columns: {', '.join(COLUMNS)}"
    if ";" in name or "\t" in name:
        hint = "columns are separated by commas: save the file so"
    return EvaluationError(f"unknown column '{name}'", where=where, hint=hint)


def _sample(where: str, row: Row) -> tuple[Sample | None, list[EvaluationError]]:
    problems: list[EvaluationError] = []

    def attempt(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except ValueError as problem:
            problems.append(EvaluationError(str(problem), where=where))
            return otherwise

    name = attempt(lambda: _text(row, "id"), "")
    text = attempt(lambda: _text(row, "input"), "")
    eval_type: EvalType = attempt(lambda: _eval_type(row), "generation")
    choices: tuple[str, ...] = attempt(lambda: _choices(row.get("answer_choices"), eval_type), ())
    if problems:
        return None, problems
    second = attempt(lambda: _second(row.get("second"), eval_type), "")
    target = attempt(lambda: _target(row.get("target"), eval_type, choices), None)
    return (None, problems) if problems else (Sample(name, text, eval_type, choices, target, second), [])


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise ValueError(f"{column} is {type(value).__name__}, not text")
    if not value.strip():
        raise ValueError(f"{column} is blank")
    return value


def _eval_type(row: Row) -> EvalType:
    value = row["eval_type"]
    if value in EVAL_TYPES:
        return cast(EvalType, value)
    *others, last = (f"'{kind}'" for kind in EVAL_TYPES)
    raise ValueError(f"eval_type is {value!r}, not {', '.join(others)} or {last}")


def _is_shown_text(choice: object) -> bool:
    return isinstance(choice, str) and choice != ""


def _choices(value: object, eval_type: EvalType) -> tuple[str, ...]:
    choices = _choice_list(value)
    if not all(map(_is_shown_text, choices)):
        raise ValueError("answer_choices holds something that is not text, or is empty text")
    if eval_type == "multiple_choice" and len(choices) < 2:
        raise ValueError(f"multiple choice with {len(choices)} answer_choices; at least 2 are needed")
    return cast("tuple[str, ...]", tuple(choices))


def _choice_list(value: object) -> list[object]:
    is_absent = isinstance(value, str) and value.strip() in ABSENT
    if value is None or is_absent:
        return []
    choices = _literal(value) if isinstance(value, str) else value
    if not isinstance(choices, list):
        raise ValueError("answer_choices is neither a JSON list nor a Python list literal")
    return choices


def _literal(text: str) -> object:
    if len(text) > MAX_CHOICES_CHARACTERS:
        raise ValueError(f"answer_choices is longer than {MAX_CHOICES_CHARACTERS} characters")
    try:
        return _json(text)
    except (ValueError, RecursionError):
        pass
    try:
        return cast(object, ast.literal_eval(text.strip()))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _second(value: object, eval_type: EvalType) -> str:
    """Return the text beside the input. A similarity needs one; only multiple choice may have one besides."""
    if value is None or value == "":
        if eval_type == "similarity":
            raise ValueError("a similarity needs a second text; the column 'second' is empty")
        return ""
    if not isinstance(value, str):
        raise ValueError(f"second is {type(value).__name__}, not text")
    if eval_type not in ("similarity", "multiple_choice"):
        raise ValueError(f"second is for similarity and multiple_choice; this row is {eval_type}")
    return value


def _target(value: object, eval_type: EvalType, choices: tuple[str, ...]) -> int | str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"target is {type(value).__name__}, not text or a number")
    if eval_type == "multiple_choice":
        return _index(value, choices)
    if eval_type == "text":
        raise ValueError("a text has no target")
    if eval_type == "similarity" and not _is_number(value):
        raise ValueError(f"target {value!r} of a similarity is not a number")
    return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _pieces(path: Path) -> tuple[Sample, ...]:
    """Cut a text where a line ends, once a piece is long enough; blank pieces are left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise EvaluationError(f"not UTF-8: {error}", where=str(path)) from error
    pieces = [""]
    for line in lines:
        if len(pieces[-1]) >= PIECE_CHARACTERS:
            pieces.append("")
        pieces[-1] += line
    texts = [piece for piece in pieces if piece.strip()]
    if not texts:
        raise EvaluationError("no text", where=str(path))
    return tuple(Sample(str(number), text, "text") for number, text in enumerate(texts, start=1))


def _index(target: str, choices: tuple[str, ...]) -> int:
    """Read an index, or the text of exactly a single choice."""
    if _is_index(target, choices):
        return int(target)
    if choices.count(target) == 1:
        return choices.index(target)
    if target.strip().isdecimal():
        raise ValueError(f"target {int(target)} is not one of the {len(choices)} choices, which count from 0")
    raise ValueError(f"target {target!r} is neither an index nor the text of exactly one choice")


def _is_index(target: str, choices: tuple[str, ...]) -> bool:
    return target.strip().isdecimal() and int(target) < len(choices)


def _way(target: object, choices: tuple[str, ...]) -> str:
    """Say how a target names its choice: by `index`, by `text`, or perhaps by `either`, and then another choice."""
    is_text = target in choices
    if not isinstance(target, str) or not _is_index(target, choices):
        return "text" if is_text else "none"
    if is_text and choices.index(target) != int(target):
        return "either"
    return "index"


def _doubtful(ways: dict[str, str]) -> list[EvaluationError]:
    """List rows whose target is an index and another choice's text, in a file that gives targets by text, too."""
    places: dict[str, list[str]] = defaultdict(list)
    for where, way in ways.items():
        places[way].append(where)
    if not places["text"]:
        return []
    message = f"the target is an index and also the text of another choice, and {places['text'][0]} gives a text"
    hint = "give the index, counted from 0, in all rows of the file"
    return [EvaluationError(message, where=where, hint=hint) for where in places["either"]]
