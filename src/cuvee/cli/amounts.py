"""Amounts of bytes, and parts of a whole, as people write and read them."""

import re
from typing import TYPE_CHECKING

from cuvee.errors import RecipeError

if TYPE_CHECKING:
    from cuvee.engine import Part

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(text: str, option: str) -> int:
    """Read "512MB", "1.5GiB" or "1000000". Raises RecipeError."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]I?)?B?\s*", text.upper())
    try:
        if match is None:
            raise ValueError(text)
        return int(float(match[1]) * _UNITS[match[2] or ""])
    except ValueError as error:
        raise RecipeError(f"{option}: expected an amount such as 512MB or 2GiB, found '{text}'") from error


def bytes_text(count: float) -> str:
    """Write a number of bytes: 2.20 GB, 512 MB, 3.1 kB."""
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def parse_part(text: str, option: str) -> "Part":
    """Read "2/3". Raises RecipeError."""
    from cuvee.engine import Part

    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise RecipeError(f"{option}: expected a part such as 1/3, 2/3 or 3/3, found '{text}'")
    return Part(int(match[1]), int(match[2]))
