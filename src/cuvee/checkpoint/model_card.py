"""A model's card as machines read it: the YAML between `---` lines at the head of its README.md."""

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
    """Read the facts of a model's card; none for a model without a card, or with a card that cannot be read."""
    front = card_front(place) if place is not None else {}
    licence = front.get("license")
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    if licence == "other":
        licence = front.get("license_name") or licence
    languages = front.get("language") or []
    if not isinstance(languages, list):
        languages = [languages]
    return Facts(str(licence) if licence else None, tuple(map(str, languages)))


def stated_facts(name: str, place: Path | None, adapter_place: Path | None = None) -> dict[str, Facts]:
    """Return the facts of a model's card by its name; of a `base+adapter`, those of both, each by its own name."""
    if adapter_place is None:
        return {name: card_facts(place)}
    base, _, adapter = name.partition("+")
    return {base: card_facts(place), adapter: card_facts(adapter_place)}


def card_front(folder: Path) -> Mapping[str, Any]:
    """Read the YAML at the head of a model's card; nothing for a model without a card, or with a damaged card."""
    try:
        with (folder / CARD).open(encoding="utf-8") as opened:
            text = opened.read(LONGEST)
        if not text.startswith("---"):
            return {}
        front = yaml.safe_load(text[3:].partition("\n---")[0])
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return front if isinstance(front, dict) else {}


def joint_licence(stated: Sequence[str | None]) -> str | list[str] | None:
    """Return the licence of a blend of models under these: theirs if they go together, else "other".

    None if a model states none: then nothing can be said.
    """
    licences = list(filter(None, dict.fromkeys(stated)))
    if not licences or None in stated:
        return None
    if len(licences) == 1:
        return licences[0]
    return licences if PERMISSIVE.issuperset(licences) else "other"


def licence_conflict(names: Sequence[str], stated: Sequence[str | None]) -> str | None:
    """Say which licences do not simply go together; None if they do, as far as they are stated."""
    licences = set(filter(None, stated))
    if len(licences) < 2 or PERMISSIVE.issuperset(licences):
        return None
    listed = []
    for name, licence in zip(names, stated, strict=True):
        if licence:
            listed.append(f"{licence} ({name})")
    terms = "see whether they allow this merge and under which terms"
    return f"the models' licences differ: {', '.join(listed)}; {terms}"
