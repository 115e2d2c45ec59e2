"""The labels that a classifier's outputs stand for, as a config.json has them."""

import re
from collections.abc import Mapping
from typing import Any

_UNNAMED = re.compile(r"LABEL_\d+", re.IGNORECASE)
"""What transformers writes where nobody named the labels."""

KEYS = ("id2label", "label2id", "num_labels", "problem_type")
"""Keys of a config that speak of labels."""


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels by the number of their output; nothing where the config does not name them, or not all."""
    written = config.get("id2label")
    if not isinstance(written, Mapping):
        return ()
    by_number = {str(number): label for number, label in written.items()}
    names = [by_number.get(str(number)) for number in range(len(by_number))]
    return tuple(map(str, names)) if None not in names else ()


def are_named(labels: tuple[str, ...]) -> bool:
    """Say whether labels have names, other than those that transformers gives by number."""
    if not labels:
        return False
    return not all(_UNNAMED.fullmatch(label) for label in labels)


def order_of(labels: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return where each of the `wanted` labels is among others, in whatever case; None if they are not the same."""
    plain = list(map(_plain, labels))
    plain_wanted = list(map(_plain, wanted))
    has_doubles = len(set(plain)) < len(plain)
    if has_doubles or sorted(plain) != sorted(plain_wanted):
        return None
    return tuple(plain.index(label) for label in plain_wanted)


def _plain(label: str) -> str:
    return label.strip().casefold()
