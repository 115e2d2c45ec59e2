"""Amounts as people write and read them: bytes, and scores in points of 100."""

import re

MINUS = "\N{MINUS SIGN}"
STEADY_DECIMALS = 9
"""Of a number of points; the decimals behind them are rounding errors."""

_ROUNDS_UP = 0.9995
"""From this share of a unit on, three digits of the smaller one would be 1000."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def bytes_of(text: str) -> int:
    """Read "512MB", "1.5GiB" or "1000000". Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", text.upper())
    if match is None:
        raise ValueError(f"expected an amount such as 512MB or 2GiB, found '{text}'")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def bytes_text(count: float) -> str:
    """Write a number of bytes in three digits, and from 1000 TB on in all: 2.2 GB, 512 MB, 3.1 kB."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size * _ROUNDS_UP:
            amount = count / size
            return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:.3g} {unit}"
    return f"{count:.0f} B"


def points(fraction: float) -> str:
    """Write a fraction in points with one decimal, e.g. "62.8".

    A mean of scores may lie halfway between two decimals. Its last bits differ between processors, so they do not
    decide.
    """
    steady = round(100 * fraction, STEADY_DECIMALS)
    return f"{round(steady, 1) + 0.0:.1f}".replace("-", MINUS)


def signed(fraction: float) -> str:
    """Write a difference of fractions in points with its sign, e.g. "+4.0"."""
    text = points(fraction)
    return text if text == "0.0" or text.startswith(MINUS) else f"+{text}"
