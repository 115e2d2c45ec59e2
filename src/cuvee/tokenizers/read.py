"""Reads a tokenizer's vocabulary from its files, without any library: which text has which id."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from blake3 import blake3

from cuvee.errors import CheckpointError

JSON = "tokenizer.json"
FILES = (JSON, "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "added_tokens.json", "merges.txt")
"""Where a vocabulary may stand."""

SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
"""Where transformers keeps chat templates besides the usual one: NAME.jinja."""


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary. `added` are the tokens, special tokens among them, that are searched before the text is cut.

    `content` is the whole tokenizer.json, None if there is none.
    """

    kind: str
    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]
    content: Mapping[str, Any] | None
    where: str

    @cached_property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids."""
        return sorted(self.ids, key=lambda token: (self.ids[token], token))

    @property
    def size(self) -> int:
        """The largest id plus 1."""
        return max(self.ids.values(), default=-1) + 1

    @cached_property
    def digest(self) -> str:
        """BLAKE3 of which token has which id."""
        return blake3(json.dumps([[token, self.ids[token]] for token in self.tokens]).encode()).hexdigest()

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether texts are cut into bytes, each written as a letter, as GPT-2 does."""
        if self.content is None:
            return "Ġ" in self.ids
        steps = [self.content.get("pre_tokenizer"), self.content.get("decoder")]
        return "ByteLevel" in json.dumps(steps)


def is_template_file(name: str) -> bool:
    """Say whether a companion is a chat template besides the usual template."""
    return name.startswith(f"{TEMPLATES}/") and name.endswith(".jinja")


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read a folder's tokenizer. Raises CheckpointError if it has none, or none that is understood."""
    try:
        if (folder / JSON).is_file():
            return _from_json(folder / JSON)
        for name in ("tokenizer.model", "spiece.model"):
            if (folder / name).is_file():
                return _with_added(folder, "SentencePiece", _pieces((folder / name).read_bytes(), folder / name))
        if (folder / "vocab.json").is_file():
            return _with_added(folder, "BPE", _load(folder / "vocab.json"))
        if (folder / "vocab.txt").is_file():
            lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
            words = lines[:-1] if lines[-1] == "" else lines
            return _with_added(folder, "WordPiece", {word: i for i, word in enumerate(words)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"this tokenizer cannot be read: {error}", where=str(folder)) from error
    raise CheckpointError("has no tokenizer", where=str(folder), hint=f"expected one of {', '.join(FILES[:5])}")


def _load(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _from_json(file: Path) -> Tokenizer:
    return parse_tokenizer(_load(file), str(file))


def parse_tokenizer(content: Mapping[str, Any], where: str) -> Tokenizer:
    """Read the vocabulary of a tokenizer.json."""
    model = content["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        ids = {str(entry[0]): i for i, entry in enumerate(vocabulary)}
    else:
        ids = {str(token): int(number) for token, number in vocabulary.items()}
    added = {}
    for entry in content.get("added_tokens") or ():
        token = str(entry["content"])
        added[token] = dict(entry)
        ids[token] = int(entry["id"])
    return Tokenizer(_kind(model), ids, added, content, where)


def _kind(model: Mapping[str, Any]) -> str:
    if model.get("type"):
        return str(model["type"])
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model["vocab"], list) else "WordPiece"


def _with_added(folder: Path, kind: str, ids: Mapping[str, int]) -> Tokenizer:
    """Complete a vocabulary by the tokens that older files hold apart."""
    added: dict[str, Mapping[str, Any]] = {}
    for text, number in _load_if_there(folder / "added_tokens.json").items():
        added[str(text)] = {"id": int(number), "content": text}
    settings = _load_if_there(folder / SETTINGS)
    for number, entry in (settings.get("added_tokens_decoder") or {}).items():
        added[str(entry["content"])] = {"id": int(number), **entry}
    all_ids = {**ids, **{token: int(entry["id"]) for token, entry in added.items()}}
    return Tokenizer(kind, all_ids, added, None, str(folder))


def _load_if_there(file: Path) -> dict[str, Any]:
    return _load(file) if file.is_file() else {}


def _pieces(data: bytes, file: Path) -> dict[str, int]:
    """Read the pieces of a SentencePiece model, a protocol buffer: field 1 is a piece, whose field 1 is its text."""
    pieces: list[str] = []
    for piece in _first_fields(data):
        pieces += [text.decode() for text in _first_fields(piece)]
    if not pieces:
        raise ValueError(f"{file.name} holds no pieces")
    return {piece: i for i, piece in enumerate(pieces)}


def _first_fields(data: bytes) -> Iterator[bytes]:
    """Yield the values of the field 1 of a message."""
    for number, value in _fields(data):
        if number == 1:
            yield value


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """List the fields of a protocol buffer message that hold bytes."""
    found, at = [], 0
    while at < len(data):
        key, at = _number(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _number(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _number(data, at)
            found.append((key >> 3, data[at : at + length]))
            at += length
        else:
            raise ValueError("not a protocol buffer")
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
