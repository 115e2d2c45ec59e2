"""What a model's card says for machines: the YAML between `---` lines at the head of its README.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CARD = "README.md"
LONGEST = 1 << 16
"""Characters of a card that are looked at."""

PERMISSIVE = frozenset(
    ("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense", "cc0-1.0", "cc-by-4.0")
)
"""Licences that can be kept side by side: each only asks to be named."""


@dataclass(frozen=True)
class Facts:
    """Licence and languages as a card states them; a licence of None is not stated."""

    licence: str | None = None
    languages: tuple[str, ...] = ()


def card_facts(place: Path | None) -> Facts:
    """Read what a model's card states; nothing for a model without one, or with one that cannot be read."""
    front = card_front(place) if place is not None else {}
    licence, name = front.get("license"), front.get("license_name")
    licence = ", ".join(map(str, licence)) if isinstance(licence, list) else licence
    stated = name if licence == "other" and name else licence
    languages = front.get("language")
    listed = languages if isinstance(languages, list) else [languages] if languages else []
    return Facts(str(stated) if stated else None, tuple(map(str, listed)))


def card_front(folder: Path) -> Mapping[str, Any]:
    """Read the YAML at the head of a model's card; nothing for a model without one, or with one that is damaged."""
    try:
        with (folder / CARD).open(encoding="utf-8") as opened:
            text = opened.read(LONGEST)
        if not text.startswith("---"):
            return {}
        found = yaml.safe_load(text[3:].partition("\n---")[0])
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def joint_licence(stated: Sequence[str | None]) -> str | list[str] | None:
    """Return the licence of what is made of models under these: theirs if they go together, else "other".

    None if a model states none: then nothing can be said.
    """
    known = list(dict.fromkeys(licence for licence in stated if licence))
    if not known or None in stated:
        return None
    if len(known) == 1:
        return known[0]
    return known if PERMISSIVE.issuperset(known) else "other"


def licence_conflict(names: Sequence[str], stated: Sequence[str | None]) -> str | None:
    """Say which licences do not simply go together; None if they do, as far as they are stated."""
    known = {licence for licence in stated if licence}
    if len(known) < 2 or PERMISSIVE.issuperset(known):
        return None
    of = ", ".join(f"{licence} ({name})" for name, licence in zip(names, stated, strict=True) if licence)
    return f"the models' licences differ: {of}; see whether they allow this merge and under which terms"
