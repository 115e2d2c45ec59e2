"""Amounts of bytes, and parts of a whole, as people write and read them."""

import re
from typing import TYPE_CHECKING

from cuvee.amounts import bytes_of, bytes_text
from cuvee.errors import RecipeError

if TYPE_CHECKING:
    from cuvee.engine import Part

__all__ = ["bytes_text", "parse_bytes", "parse_part"]


def parse_bytes(text: str, option: str) -> int:
    """Read "512MB", "1.5GiB" or "1000000". Raises RecipeError."""
    try:
        return bytes_of(text)
    except ValueError as error:
        raise RecipeError(f"{option}: {error}") from error


def parse_part(text: str, option: str) -> "Part":
    """Read "2/3". Raises RecipeError."""
    from cuvee.engine import Part

    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise RecipeError(f"{option}: expected a part such as 1/3, 2/3 or 3/3, found '{text}'")
    return Part(int(match[1]), int(match[2]))
