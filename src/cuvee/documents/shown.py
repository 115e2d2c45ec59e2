"""Foreign values as messages show them: short, on one line, every character printable."""

import reprlib
from typing import Any

LONGEST = 160

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40


def shown(value: Any) -> str:
    """Return a value as text for a message; large ones are cut."""
    text = _SHORT.repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
