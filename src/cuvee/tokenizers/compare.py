"""Two vocabularies side by side: equal, reordered, superset, subset, overlapping or disjoint; and padding rows."""

from dataclasses import dataclass
from typing import Literal

from cuvee.tokenizers.read import Tokenizer

Relation = Literal["equal", "reordered", "superset", "subset", "overlapping", "disjoint"]
MOST_NAMED = 5


@dataclass(frozen=True)
class Comparison:
    """The relation of a vocabulary to another. `moved` counts shared tokens with another id; `only` are examples."""

    relation: Relation
    shared: int
    moved: int
    only_first: int
    only_second: int
    examples_first: tuple[str, ...]
    examples_second: tuple[str, ...]


def compare(first: Tokenizer, second: Tokenizer) -> Comparison:
    """Compare the second vocabulary with the first: a superset has all of its tokens and more."""
    left, shared, moved = [], 0, 0
    for token in first.tokens:
        if token not in second.ids:
            left.append(token)
            continue
        shared += 1
        moved += first.ids[token] != second.ids[token]
    right = [token for token in second.tokens if token not in first.ids]
    relation = _relation(shared, moved, len(left), len(right))
    examples = (tuple(left[:MOST_NAMED]), tuple(right[:MOST_NAMED]))
    return Comparison(relation, shared, moved, len(left), len(right), *examples)


def _relation(shared: int, moved: int, only_first: int, only_second: int) -> Relation:
    if not shared:
        return "disjoint"
    if only_first and only_second:
        return "overlapping"
    if only_first:
        return "subset"
    if only_second:
        return "superset"
    return "reordered" if moved else "equal"


def in_words(found: Comparison) -> str:
    """Return a comparison as half a sentence."""
    moved = f", {found.moved} of them under other ids" if found.moved else ""
    return {
        "equal": "the same tokens",
        "reordered": f"the same tokens, {found.moved} of them under other ids",
        "superset": f"all its {found.shared} tokens{moved} and {found.only_second} more",
        "subset": f"{found.shared} of its tokens{moved}, and none more: {found.only_first} are lacking",
        "overlapping": f"{found.shared} tokens in common{moved}, {found.only_first} and {found.only_second} besides",
        "disjoint": "no token in common",
    }[found.relation]
