"""Amounts of bytes, parts of a whole, numbers and settings, as people write and read them."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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


def parse_numbers(text: str, option: str) -> list[float]:
    """Read "0.5,0.3,0.2". Raises RecipeError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"{option}: expected numbers such as 0.5,0.3, found '{text}'") from error


def parse_settings(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Read "density=0.5" and the like. Raises RecipeError."""
    import yaml

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{option}: '{value}' is no value") from error
        if not equals or not name.strip():
            raise RecipeError(f"{option}: expected a setting such as density=0.5, found '{text}'")
    return found
