"""A tokenizer with all tokens of several: the base keeps its ids, other tokens follow in the order of the models.

Tokens follow as mergekit has them: first ordinary tokens, then added and special tokens; the first definition counts.
Unlike there an ordinary token stays ordinary: it becomes part of the vocabulary, with its merges or its score if the
model that has it cuts text in the same way as the base, and is not searched in the raw text.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.tokenizers.read import Tokenizer

UNLIKELY = 10.0
"""How far below the worst score a token stands that has none of its own."""


@dataclass(frozen=True)
class Union:
    """The joined vocabulary, the text of its tokenizer.json, and how many tokens came to the base's."""

    ids: Mapping[str, int]
    ordinary: tuple[str, ...]
    added: tuple[str, ...]
    content: Mapping[str, Any]

    @property
    def text(self) -> str:
        return json.dumps(self.content, ensure_ascii=False, indent=2) + "\n"


def join(tokenizers: Sequence[Tokenizer]) -> Union:
    """Join vocabularies; the first is the base. Raises CheckpointError if the base has no tokenizer.json."""
    base = tokenizers[0]
    if base.content is None:
        hint = "save it once with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        raise CheckpointError("a union needs a tokenizer.json of the base", where=base.where, hint=hint)
    entries: dict[str, Mapping[str, Any]] = {}
    for tokenizer in tokenizers:
        for token in tokenizer.tokens:
            if token in tokenizer.added:
                entries.setdefault(token, tokenizer.added[token])
    ids = dict(base.ids)
    ordinary: list[str] = []
    added: list[str] = []
    for tokenizer in tokenizers[1:]:
        for token in tokenizer.tokens:
            if token not in ids and token not in entries:
                ids[token] = _next(ids, base, ordinary, added)
                ordinary.append(token)
    for token in entries:
        if token not in ids:
            ids[token] = _next(ids, base, ordinary, added)
            added.append(token)
    content = _content(tokenizers, ids, ordinary, {token: entries[token] for token in added})
    return Union(ids, tuple(ordinary), tuple(added), content)


def new_tokens(named: Mapping[str, bool], tokenizers: Sequence[Tokenizer]) -> Tokenizer:
    """Return a vocabulary of tokens alone, to be joined to another: as the first tokenizer that adds one has it.

    `named` says of each whether it is a special token where no tokenizer adds it.
    """
    added: dict[str, Mapping[str, Any]] = {}
    for token in named:
        entries = [tokenizer.added[token] for tokenizer in tokenizers if token in tokenizer.added]
        added[token] = {"content": token, "special": named[token], **(entries[0] if entries else {})}
    ids = {token: number for number, token in enumerate(added)}
    return Tokenizer("added", ids, added, None, "tokens of the recipe")


def _next(ids: Mapping[str, int], base: Tokenizer, ordinary: Sequence[str], added: Sequence[str]) -> int:
    return base.size + len(ordinary) + len(added)


def _content(
    tokenizers: Sequence[Tokenizer], ids: Mapping[str, int], ordinary: Sequence[str], added: Mapping[str, Any]
) -> dict[str, Any]:
    base = tokenizers[0]
    content: dict[str, Any] = copy.deepcopy(dict(base.content or {}))
    own = content.get("added_tokens") or []
    others = [{**_plain(token, entry), "id": ids[token]} for token, entry in added.items()]
    content["added_tokens"] = [*own, *others]
    model = content["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = _scored(tokenizers, ids, model["vocab"])
    else:
        # added tokens as well: the library counts ids of those that the vocabulary lacks from its size on
        model["vocab"] = dict(sorted({**ids, **model["vocab"]}.items(), key=lambda item: item[1]))
    if base.kind == "BPE":
        model["merges"] = _merges(tokenizers, set(ordinary), ids)
    return content


def _plain(token: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an added token as tokenizer.json has it."""
    defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"id": 0, "content": token, **{key: bool(entry.get(key, value)) for key, value in defaults.items()}}


def _scored(tokenizers: Sequence[Tokenizer], ids: Mapping[str, int], vocabulary: list[Any]) -> list[list[Any]]:
    """Return a Unigram vocabulary in which the place is the id: others' scores where they are of the same kind."""
    scores: dict[str, float] = {}
    for tokenizer in reversed(tokenizers):
        listed = (tokenizer.content or {}).get("model", {}).get("vocab")
        if isinstance(listed, list):
            scores |= {str(token): float(score) for token, score in listed}
    worst = min(scores.values(), default=0.0) - UNLIKELY
    tokens = {number: token for token, number in ids.items()}
    joined = [list(entry) for entry in vocabulary]
    for number in range(len(vocabulary), max(tokens) + 1):
        if number in tokens:
            joined.append([tokens[number], scores.get(tokens[number], worst)])
        else:
            joined.append([f"<unused{number}>", worst])
    return joined


def _merges(tokenizers: Sequence[Tokenizer], new: set[str], ids: Mapping[str, int]) -> list[Any]:
    """Return the base's merges, then merges of models that cut in the same way and lead to new tokens."""
    base = tokenizers[0]
    assert base.content is not None, "seen when they were joined"
    written = list(base.content["model"]["merges"])
    known = {_pair(merge) for merge in written}
    pairs: list[tuple[str, str]] = []
    for other in tokenizers[1:]:
        if other.content is None or other.kind != "BPE":
            continue
        if _cut(other) != _cut(base):
            continue
        for merge in other.content["model"]["merges"]:
            pair = _pair(merge)
            if pair in known or not _is_of_tokens(pair, ids):
                continue
            if _leads(pair, new):
                known.add(pair)
                pairs.append(pair)
    are_texts = bool(written) and isinstance(written[0], str)
    has_blanks = any(" " in "".join(pair) for pair in pairs)
    if are_texts and not has_blanks:
        return [*written, *map(" ".join, pairs)]
    return [*(list(_pair(merge)) for merge in written), *map(list, pairs)]


def _is_of_tokens(pair: tuple[str, str], ids: Mapping[str, int]) -> bool:
    """Say whether both pieces of a merge, and the piece that it makes, are tokens."""
    left, right = pair
    return {left, right, left + right} <= ids.keys()


def _leads(pair: tuple[str, str], new: set[str]) -> bool:
    """A merge among the base's own tokens would only change how the base cuts."""
    return "".join(pair) in new


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return str(left), str(right)


def _cut(tokenizer: Tokenizer) -> tuple[Any, ...]:
    """Return the facts that two BPE models must share for their merges to make sense in each other."""
    model = (tokenizer.content or {}).get("model", {})
    prefix, suffix = model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")
    return tokenizer.is_byte_level, prefix or "", suffix or ""
