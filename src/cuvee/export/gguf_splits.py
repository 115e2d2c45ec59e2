"""How a byte-level tokenizer cuts texts into words before its merges, in llama.cpp's names for it.

`gguf_splits.json` has those whose token numbers were compared with llama.cpp's own, from `src/llama-vocab.cpp`.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cuvee.errors import CheckpointError, RecipeError

OTHER_SPLITS = (
    "bailingmoe", "bloom", "chatglm-bpe", "codeshell", "command-r", "deepseek-coder", "deepseek-llm", "deepseek-v3",
    "default", "exaone", "falcon", "gpt3-finnish", "hunyuan", "jais", "kimi-k2", "minerva-7b", "mpt", "olmo",
    "poro-chat", "refact", "seed-coder", "smaug-bpe", "stablelm2", "starcoder", "superbpe", "trillion", "viking",
)  # fmt: skip
"""Names that llama.cpp knows besides. Who uses such a tokenizer can name it."""


def split_name(written: Mapping[str, Any] | None, *, ignores_merges: bool) -> str | None:
    """Return llama.cpp's name of a way to cut texts before the merges; None if it has no name known here."""
    if not written:
        return None
    steps = written.get("pretokenizers") or [written]
    if any(step.get("add_prefix_space") for step in steps):
        return None
    for entry in _splits():
        if entry["ignore_merges"] != ignores_merges:
            continue
        fits = _cuts_by_pattern if entry["steps"] == ["Split"] else _cuts_by_steps
        if fits(steps, entry):
            return str(entry["name"])
    return None


def _cuts_by_pattern(steps: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> bool:
    """Say whether a tokenizer cuts by the entry's pattern, and byte-level letters cut nothing more."""
    if [step.get("type") for step in steps] != ["Split", "ByteLevel"]:
        return False
    split, letters = steps
    if split.get("invert") or letters.get("use_regex", True):
        return False
    return split.get("behavior") == "Isolated" and split.get("pattern") == {"Regex": entry["pattern"]}


def _cuts_by_steps(steps: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> bool:
    """Say whether a tokenizer has the entry's steps, of which the last cuts by GPT-2's own pattern."""
    kinds = [step.get("type") for step in steps]
    if kinds != entry["steps"] or not steps[-1].get("use_regex", True):
        return False
    return steps[0].get("type") != "Digits" or bool(steps[0].get("individual_digits"))


def chosen_split(name: str) -> str:
    """Check a name that somebody gives. Raises RecipeError."""
    names = sorted({str(entry["name"]) for entry in _splits()} | set(OTHER_SPLITS))
    if name not in names:
        raise RecipeError(f"llama.cpp has no way to cut texts called '{name}'", hint=f"known are {', '.join(names)}")
    return name


def no_name(where: str) -> CheckpointError:
    """Say that a tokenizer's way has no name."""
    message = "how the tokenizer cuts texts into words has no name in llama.cpp: the tokens would be others"
    hint = "--split NAME writes the nearest one, such as gpt-2; compare the numbers of tokens before you trust the file"
    return CheckpointError(message, where=where, hint=hint)


@cache
def _splits() -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads((Path(__file__).parent / "gguf_splits.json").read_text(encoding="utf-8")))
