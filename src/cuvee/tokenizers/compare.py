"""Two vocabularies side by side: equal, reordered, superset, subset, overlapping or disjoint; and padding rows."""

from dataclasses import dataclass
from typing import Literal

from cuvee.tokenizers.read import Tokenizer

Relation = Literal["equal", "reordered", "superset", "subset", "overlapping", "disjoint"]
MOST_NAMED = 5


@dataclass(frozen=True)
class Comparison:
    """What one vocabulary is to another. `moved` counts shared tokens with another id; `only` are examples."""

    relation: Relation
    shared: int
    moved: int
    only_first: int
    only_second: int
    examples_first: tuple[str, ...]
    examples_second: tuple[str, ...]


def compare(first: Tokenizer, second: Tokenizer) -> Comparison:
    """Say what the second vocabulary is to the first: a superset has all of its tokens and more."""
    shared = [token for token in first.tokens if token in second.ids]
    moved = sum(first.ids[token] != second.ids[token] for token in shared)
    left = [token for token in first.tokens if token not in second.ids]
    right = [token for token in second.tokens if token not in first.ids]
    relation: Relation
    if not shared:
        relation = "disjoint"
    elif left and right:
        relation = "overlapping"
    elif left or right:
        relation = "subset" if left else "superset"
    else:
        relation = "reordered" if moved else "equal"
    examples = (tuple(left[:MOST_NAMED]), tuple(right[:MOST_NAMED]))
    return Comparison(relation, len(shared), moved, len(left), len(right), *examples)


def in_words(found: Comparison) -> str:
    """Return a comparison as half a sentence."""
    moved = f", {found.moved} of them under other ids" if found.moved and found.relation != "reordered" else ""
    return {
        "equal": "the same tokens",
        "reordered": f"the same tokens, {found.moved} of them under other ids",
        "superset": f"all its {found.shared} tokens{moved} and {found.only_second} more",
        "subset": f"{found.shared} of its tokens{moved}, and none more: {found.only_first} are lacking",
        "overlapping": f"{found.shared} tokens in common{moved}, {found.only_first} and {found.only_second} besides",
        "disjoint": "no token in common",
    }[found.relation]
