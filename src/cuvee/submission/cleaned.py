"""Text that a job wrote, made fit to be shown, stored and sent: it may be anything at all."""

from typing import Any

LONGEST = 4000
"""Characters of a message."""


def cleaned(text: Any, most: int = LONGEST) -> str:
    """Return a text as valid Unicode without control characters, at most `most` characters of it.

    New lines and tabs stay. Anything but text becomes the empty text.
    """
    if not isinstance(text, str):
        return ""
    valid = text[:most].encode("utf-8", "replace").decode("utf-8")
    return "".join(filter(_is_shown, valid))


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in "\n\t"
