"""Whether a page shows what a command has printed. What machines print differently is matched here, not on the page."""

import re

ALWAYS = {
    "seconds": r"\b\d+(?:\.\d+)? (?:ms|s|min|h)\b",
    "rate": r"\b\d+(?:\.\d+)? [kMGT]?B/s",
    "peak": r"peak private memory \d+(?:\.\d+)? [kMGT]?B",
    "workers": r"\b\d+ workers?\b",
}
"""What no two runs, or no two machines, have in common."""

ONCE = r"^besides, .* to compile kernels for this machine, once\n?"
"""Lines that only the first run on a machine prints. Pages leave them out."""

ON_REQUEST = {
    "date": r"\b\d{4}-\d\d-\d\d\b",
    "digest": r"\b[0-9a-f]{16,}\b",
    "memory": r"\b\d+(?:\.\d+)? [kMGT]?B\b",
    "sandbox": r"sandbox: .*",
    "processors": r"<seconds> of processors|processors not measured",
}
"""What a page names in a comment before a block: <!-- varies: digest -->."""

MEASURES = ("demo", "evaluate", "parents", "report", "submission")
POINTS = 0.5
"""How far a score may be off, in points: on another processor one answer of 200 may come out otherwise."""

EXAMINES = ("doctor", "align")
SHARE = 0.01
"""How far a figure of a model's numbers may be off, as a share of it."""

_NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?")


def alike(shown: str, printed: str, command: str = "", varies: tuple[str, ...] = ()) -> bool:
    """Say whether the page shows what was printed; line breaks and spacing are free, as terminals differ in width.

    Every figure counts, except seconds and the like. Figures with decimals of commands that run models may be off by a
    little, since sums in a processor's order decide there.
    """
    first, second = _masked(shown, varies), _masked(printed, varies)
    if _NUMBER.sub("#", first) != _NUMBER.sub("#", second):
        return False
    pairs = zip(_NUMBER.findall(first), _NUMBER.findall(second), strict=True)
    return all(_near(one, other, command) for one, other in pairs)


def settled(output: str) -> str:
    """Return what a later run on the same machine prints."""
    return re.sub(ONCE, "", output, flags=re.MULTILINE).rstrip("\n")


def _masked(text: str, varies: tuple[str, ...]) -> str:
    for kind in (*ALWAYS, *varies):
        text = re.sub(ALWAYS.get(kind) or ON_REQUEST[kind], f"<{kind}>", text)
    return " ".join(text.split())


def _near(one: str, other: str, command: str) -> bool:
    if one == other:
        return True
    if "." not in one or "." not in other:
        return False
    first, second = _value(one), _value(other)
    verb = command.split()[1] if command.startswith("cuvee ") else ""
    if verb in MEASURES:
        return abs(first - second) <= POINTS + 1e-9
    return verb in EXAMINES and abs(first - second) <= SHARE * abs(first)


def _value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))
