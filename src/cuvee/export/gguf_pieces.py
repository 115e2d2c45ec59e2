"""A BPE of pieces, as SentencePiece has it, in GGUF's words: a score for each piece instead of merges.

llama.cpp joins two neighbours whenever the vocabulary has the joined piece, the highest score first. Merges say the
same only if every such pair is among them, and the pairs that make the same piece stand together.
"""

import json
from collections.abc import Generator, Mapping
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.tokenizers.read import Tokenizer

SPACE = "▁"

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def pieces_settings(tokenizer: Tokenizer) -> Generator[str, None, dict[str, Any]]:
    """Return GGUF's settings, scores by piece among them; yields notes.

    Raises CheckpointError if llama.cpp would cut otherwise.
    """
    content = tokenizer.content or {}
    has_bytes = content["model"].get("byte_fallback") and tokenizer.ids.keys() >= set(BYTES)
    if not has_bytes:
        message = f"a tokenizer of the kind {tokenizer.kind} without bytes has no form in GGUF here"
        raise CheckpointError(message, where=tokenizer.where)
    prepends = yield from _prepends(content, tokenizer)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": prepends,
        "tokenizer.ggml.scores": _scores(tokenizer),
    }


def _prepends(content: Mapping[str, Any], tokenizer: Tokenizer) -> Generator[str, None, bool]:
    """Say whether a space is put before a text. Raises CheckpointError if more is done to it."""
    steps = [
        *steps_of(content.get("normalizer"), "normalizers"),
        *steps_of(content.get("pre_tokenizer"), "pretokenizers"),
    ]
    prepends = False
    for step in steps:
        if step["type"] == "Prepend" and step["prepend"] == SPACE:
            prepends = True
        elif step["type"] == "Metaspace" and step.get("replacement") == SPACE and step.get("split") is False:
            scheme = step.get("prepend_scheme", "always")
            prepends = prepends or scheme != "never"
            if scheme == "first":
                yield "llama.cpp puts a space behind every special token within a text, the tokenizer does not"
        elif not _replaces_spaces(step):
            message = f"the tokenizer changes or cuts texts by {_shown(step)}, and llama.cpp does not"
            raise CheckpointError(message, where=tokenizer.where)
    return prepends


def _replaces_spaces(step: Mapping[str, Any]) -> bool:
    """Say whether a step only writes spaces as ▁, as llama.cpp does, or cuts at spaces that are none by then."""
    if step["type"] == "Replace":
        return bool(step["pattern"] == {"String": " "} and step["content"] == SPACE)
    return bool(step["type"] == "Split" and step["pattern"] == {"String": " "})


def _shown(step: Mapping[str, Any]) -> str:
    text = json.dumps(step, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _scores(tokenizer: Tokenizer) -> dict[str, float]:
    """Return a score for each piece that a merge makes: the earlier the merge, the higher."""
    ranks: dict[str, int] = {}
    pairs: set[tuple[str, str]] = set()
    previous = None
    for rank, merge in enumerate((tokenizer.content or {})["model"]["merges"]):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        piece = left + right
        stands_apart = piece in ranks and piece != previous
        if stands_apart and piece not in tokenizer.added:
            raise _other_order(f"'{piece}' is made by merges that stand apart", tokenizer)
        ranks.setdefault(piece, rank)
        pairs.add((left, right))
        previous = piece
    _check_complete(tokenizer, pairs)
    return {piece: -float(rank) for piece, rank in ranks.items()}


def steps_of(written: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """List the steps of a normalizer or pre-tokenizer: those of a sequence, or the single step itself."""
    if not written:
        return []
    return list(written.get(key) or [written])


def _check_complete(tokenizer: Tokenizer, pairs: set[tuple[str, str]]) -> None:
    """Raise CheckpointError if two pieces make a third, but by no merge: llama.cpp would join them all the same."""
    pieces = tokenizer.ids.keys() - tokenizer.added.keys() - set(BYTES)
    for piece in sorted(pieces):
        for at in range(1, len(piece)):
            left, right = piece[:at], piece[at:]
            if (left, right) in pairs:
                continue
            if left in pieces and right in pieces:
                raise _other_order(f"no merge makes '{piece}' of '{left}' and '{right}'", tokenizer)


def _other_order(what: str, tokenizer: Tokenizer) -> CheckpointError:
    message = f"{what}: llama.cpp, which knows pieces and no merges, would cut texts otherwise"
    return CheckpointError(message, where=tokenizer.where)
