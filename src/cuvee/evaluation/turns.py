"""Chats as text, by a tokenizer's own template: written the same on any day, and never without the question.

Templates of models that see often read a turn's content as a list of parts. Given text, such a template goes through
its letters, finds no part among them, and writes an empty turn without a word.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from cuvee.errors import EvaluationError

Turn = Mapping[str, Any]

DAY = {
    "%d": "26", "%-d": "26", "%e": "26", "%m": "07", "%b": "Jul", "%B": "July", "%Y": "2024", "%y": "24", "%a": "Fri",
    "%A": "Friday", "%j": "208", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM",
}  # fmt: skip
"""The day that a template writes. Llama's has this one where there is no clock."""

_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace('{code}', '{text}')" for code, text in DAY.items())
    + " }}{% endmacro %}"
)
"""Stands before a template in place of transformers' own clock: it takes no function from outside."""

_MARK = "cuvee4711"

_THOUGHT = re.compile(r"<(think|thinking|thought|reason|reasoning)>\s*$")


def chat_text(tokenizer: Any, turns: Sequence[Turn], where: str, *, asks: bool) -> str:
    """Return a chat as its model reads it, up to where the answer begins if it `asks`.

    Raises EvaluationError for a tokenizer without a template, and for a template that fails or leaves the turns out.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        message = "the prompt asks for a chat template and the tokenizer has none"
        raise EvaluationError(message, where=where, hint="set chat_template: false")
    form = _form(tokenizer, str(template))
    if form is None:
        message = "the chat template leaves out what a turn of the user says"
        raise EvaluationError(message, where=where, hint="set chat_template: false, or repair the template")
    try:
        return _rendered(tokenizer, [{**turn, "content": form(turn.get("content"))} for turn in turns], asks)
    except Exception as error:  # a template is a program: it fails in any way
        raise EvaluationError(f"the chat template fails: {error}", where=where) from error


def thought_opened(written: str) -> str | None:
    """Return the word of the thought that a chat's text opens at its end, as templates of thinking models do."""
    match = _THOUGHT.search(written)
    return match[1] if match else None


@lru_cache(maxsize=8)
def _form(tokenizer: Any, template: str) -> Callable[[Any], Any] | None:
    """Return the function that gives a turn's content the form that this template writes; None if it writes neither."""
    failed = False
    for form in (_as_text, _as_parts):
        try:
            written = _rendered(tokenizer, [{"role": "user", "content": form(_MARK)}], True)
        except Exception:  # noqa: BLE001  # of a template that fails with both, the chat itself says how
            failed = True
            continue
        if _MARK in written:
            return form
    return _as_text if failed else None


def _rendered(tokenizer: Any, turns: Sequence[Turn], asks: bool) -> str:
    settings: dict[str, Any] = {}
    if "strftime_now" in str(tokenizer.chat_template):
        settings["chat_template"] = _CLOCK + tokenizer.get_chat_template()
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asks, **settings))


def _as_text(content: Any) -> Any:
    """Join the parts of a content that are text; anything but a list stays."""
    if not isinstance(content, list):
        return content
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise ValueError(f"it takes text, and a turn has a part {str(part)[:60]}")
    return "".join(part["text"] for part in content)


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
