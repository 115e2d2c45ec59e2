"""A tokenizer.json in GGUF's words: `gpt2` for BPE over bytes, `llama` for BPE as SentencePiece has it."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.tokenizers.chat import chat_template
from cuvee.tokenizers.gguf import lies_in_gguf, tokenizer_texts
from cuvee.tokenizers.read import JSON, SETTINGS, Tokenizer, parse_tokenizer, read_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""transformers' words for special tokens, and GGUF's."""


def tokenizer_settings(place: Path, config: Mapping[str, Any], rows: int, notes: list[str]) -> dict[str, Any]:
    """Return GGUF's settings of a model's tokenizer, with a token for each row of the embedding."""
    found = _found(place)
    if found is None:
        notes.append("the model has no tokenizer.json: the file can be run with numbers of tokens only")
        return {"tokenizer.ggml.model": "no_vocab"}
    tokenizer, said, template = found
    if tokenizer.size > rows:
        message = f"the tokenizer has {tokenizer.size} tokens, and the embedding {rows} rows"
        raise CheckpointError(message, where=tokenizer.where)
    content = tokenizer.content or {}
    settings = _byte_level(tokenizer, content, notes) if tokenizer.is_byte_level else _pieces(tokenizer, content)
    names = {number: token for token, number in tokenizer.ids.items()}
    kinds = [_kind(names.get(i), tokenizer, content) for i in range(rows)]
    settings |= {
        "tokenizer.ggml.tokens": [names.get(i, f"[PAD{i}]") for i in range(rows)],
        "tokenizer.ggml.token_type": kinds,
    }
    ids = _special_ids(tokenizer, said, config)
    settings |= {f"tokenizer.ggml.{SPECIAL[word]}_token_id": number for word, number in ids.items()}
    settings |= {
        f"tokenizer.ggml.add_{word}_token": _adds(word, ids.get(word), said, content) for word in ("bos", "eos")
    }
    if template is not None:
        settings["tokenizer.chat_template"] = template
    if settings["tokenizer.ggml.model"] == "llama":
        scores = _scores(tokenizer, content)
        settings["tokenizer.ggml.scores"] = [scores.get(names.get(i, ""), 0.0) for i in range(rows)]
    return settings


def _found(place: Path) -> tuple[Tokenizer, Mapping[str, Any], str | None] | None:
    """Return a model's tokenizer, its tokenizer_config.json and its chat template; None if it has no tokenizer.json."""
    if lies_in_gguf(place):
        texts = tokenizer_texts(place)
        said = json.loads(texts.get(SETTINGS, "{}"))
        template = texts.get("chat_template.jinja", said.get("chat_template"))
        return parse_tokenizer(json.loads(texts[JSON]), str(place)), said, template
    folder = place if place.is_dir() else place.parent
    if not (folder / JSON).is_file():
        return None
    settings = folder / SETTINGS
    said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    return read_tokenizer(folder), said, chat_template(folder)


def _byte_level(tokenizer: Tokenizer, content: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    if tokenizer.kind != "BPE":
        raise CheckpointError(
            f"a tokenizer of the kind {tokenizer.kind} has no form in GGUF here", where=tokenizer.where
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    split = split_name(content.get("pre_tokenizer"))
    if split is None:
        notes.append("how the tokenizer cuts texts into words has no name in GGUF: llama.cpp will cut as GPT-2 does")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": split or "default",
        "tokenizer.ggml.merges": merges,
    }


def split_name(written: Mapping[str, Any] | None) -> str | None:
    """Return what llama.cpp calls a way to cut texts before the merges; None if it has no name known here."""
    steps = (written or {}).get("pretokenizers") or ([written] if written else [])
    kinds = [step.get("type") for step in steps]
    cuts_itself = bool(steps) and steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and cuts_itself:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and cuts_itself and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not cuts_itself:
        pattern = steps[0].get("pattern", {}).get("Regex")
        return next((name for name, known in _splits().items() if known == pattern), None)
    return None


@cache
def _splits() -> dict[str, str]:
    found: dict[str, str] = json.loads((Path(__file__).parent / "gguf_splits.json").read_text(encoding="utf-8"))
    return found


def _pieces(tokenizer: Tokenizer, content: Mapping[str, Any]) -> dict[str, Any]:
    if tokenizer.kind != "BPE" or not content["model"].get("byte_fallback"):
        message = f"a tokenizer of the kind {tokenizer.kind} without bytes has no form in GGUF here"
        raise CheckpointError(message, where=tokenizer.where)
    return {"tokenizer.ggml.model": "llama", "tokenizer.ggml.add_space_prefix": _prepends(content)}


def _prepends(content: Mapping[str, Any]) -> bool:
    """Say whether a space is put before a text."""
    text = json.dumps([content.get("normalizer"), content.get("pre_tokenizer")])
    return '"Prepend"' in text or '"prepend_scheme": "first"' in text or '"prepend_scheme": "always"' in text


def _scores(tokenizer: Tokenizer, content: Mapping[str, Any]) -> dict[str, float]:
    """Return a score for each token that a merge makes: llama.cpp merges what has the highest first."""
    scores: dict[str, float] = {}
    for rank, merge in enumerate(content["model"]["merges"]):
        made = merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge)
        scores.setdefault(made, -float(rank))
    return scores


def _kind(token: str | None, tokenizer: Tokenizer, content: Mapping[str, Any]) -> int:
    if token is None:
        return UNUSED
    if token in tokenizer.added:
        return CONTROL if tokenizer.added[token].get("special", True) else USER_DEFINED
    if token == content["model"].get("unk_token"):
        return UNKNOWN
    is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return BYTE if is_byte and not tokenizer.is_byte_level else NORMAL


def _special_ids(tokenizer: Tokenizer, said: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of the special tokens: as the tokenizer names them, or else as the config does."""
    ids = {}
    for word in SPECIAL:
        token = said.get(f"{word}_token")
        text = token.get("content") if isinstance(token, dict) else token
        number = tokenizer.ids.get(text) if isinstance(text, str) else config.get(f"{word}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if type(number) is int and number >= 0:
            ids[word] = number
    return ids


def _adds(word: str, number: int | None, said: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Say whether the first or last token is put to every text."""
    if number is None:
        return False
    told = said.get(f"add_{word}_token")
    if isinstance(told, bool):
        return told
    processor = content.get("post_processor") or {}
    steps = processor.get("processors") or [processor]
    template: list[Any] = next((step["single"] for step in steps if step.get("type") == "TemplateProcessing"), [])
    end = template[:1] if word == "bos" else template[-1:]
    return any("SpecialToken" in part for part in end)
