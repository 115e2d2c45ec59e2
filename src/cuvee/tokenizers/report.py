"""The tokenizers of several models, the first of which the others are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from cuvee.checkpoint import TensorSource
from cuvee.structure.vocabulary import vocabulary_rows
from cuvee.tokenizers.compare import Comparison, compare
from cuvee.tokenizers.read import Tokenizer


@dataclass(frozen=True)
class Described:
    """A model's tokenizer. `rows` is of its embedding, None without weights; `against` the first model's.

    `padding` are rows that are no token's, `beyond` tokens that have no row.
    """

    name: str
    kind: str
    tokens: int
    added: int
    rows: int | None
    padding: int
    beyond: int
    chat_template: bool
    against: Comparison | None


def describe(
    name: str, tokenizer: Tokenizer, first: Tokenizer | None, source: TensorSource | None, *, chat_template: bool
) -> Described:
    """Describe a tokenizer, and its relation to the first."""
    rows = vocabulary_rows(source.tensors, source.config) if source is not None else None
    padding, beyond = 0, 0
    if rows is not None:
        numbers = list(tokenizer.ids.values())
        padding = rows - len(set(range(rows)).intersection(numbers))
        beyond = sum(number >= rows for number in numbers)
    over = " over bytes" if tokenizer.is_byte_level else ""
    return Described(
        name=name,
        kind=tokenizer.kind + over,
        tokens=len(tokenizer.ids),
        added=len(tokenizer.added),
        rows=rows,
        padding=padding,
        beyond=beyond,
        chat_template=chat_template,
        against=compare(first, tokenizer) if first is not None else None,
    )


def describe_all(
    names: Sequence[str],
    tokenizers: Sequence[Tokenizer],
    sources: Sequence[TensorSource | None],
    templates: Sequence[str | None],
) -> tuple[Described, ...]:
    """Describe several tokenizers, each but the first against the first."""
    described = []
    first = None
    for name, tokenizer, source, template in zip(names, tokenizers, sources, templates, strict=True):
        described.append(describe(name, tokenizer, first, source, chat_template=template is not None))
        if first is None:
            first = tokenizer
    return tuple(described)
