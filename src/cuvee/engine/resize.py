"""Writes a model with more or fewer rows for tokens: padding to a multiple, padding dropped, tokens added."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from cuvee.arguments import as_reference, checks_options
from cuvee.engine.options import RunOptions
from cuvee.engine.run import MergeResult, merge
from cuvee.errors import CheckpointError, RecipeError, closest
from cuvee.foreign import open_files
from cuvee.hub import Hub
from cuvee.plan.recipes import copy_recipe
from cuvee.plan.resolve import folder_of
from cuvee.progress import Silent
from cuvee.structure.vocabulary import vocabulary_rows
from cuvee.tokenizers.read import Tokenizer, read_tokenizer

ZERO, MEAN, LIKE = "zero", "mean", "token:"


@dataclass(frozen=True)
class Resizing:
    """The changes of a vocabulary.

    Attributes:
        add: The start of each new token's row: "zero", "mean" (of all rows of tokens), or another token, whose row it
            gets; "token:zero" is the token that is called zero.
        special: Whether new tokens are special tokens, which decoding may leave out.
        multiple: The number of rows becomes a multiple of this.
        drop_padding: Whether rows that belong to no token are left out.
    """

    add: Mapping[str, str] = field(default_factory=dict)
    special: bool = False
    multiple: int | None = None
    drop_padding: bool = False


@checks_options
def resize_vocabulary(
    model: Path | str, out: Path | str, how: Resizing, *, hub: Hub | None = None, **options: Unpack[RunOptions]
) -> MergeResult:
    """Write a model with other rows in embedding and head, and a tokenizer that has the added tokens.

    New rows of no token are the mean of the rows of tokens. `Options` describes the options. Raises RecipeError for a
    token that is there already, for a start that is no token, and where nothing would change.
    """
    hub, name = hub or Hub(), as_reference(model, "model")
    place = folder_of(name, hub, options.get("progress") or Silent())
    source = open_files(place)
    rows = vocabulary_rows(source.tensors, source.config)
    if rows is None:
        raise CheckpointError("has no embedding of tokens", where=name)
    tokenizer = read_tokenizer(place if place.is_dir() else place.parent)
    _check(how, tokenizer, rows, name)
    resized = {
        "source": "base",
        "tokens": {token: _rule(start, name, how.special) for token, start in how.add.items()},
        "pad_to_multiple_of": _rows(how, tokenizer.size + len(how.add), rows),
    }
    recipe = copy_recipe(name, source="resize", keys={"tokenizer": resized})
    return merge(recipe, out, hub=hub, **options)


def _rows(how: Resizing, tokens: int, rows: int) -> int:
    """Return how many rows there are to be."""
    least = tokens if how.drop_padding else max(tokens, rows)
    multiple = how.multiple or 1
    return -(-least // multiple) * multiple


def _rule(start: str, model: str, special: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": start}
    if start not in (ZERO, MEAN):
        row = {"kind": "model_token", "model": model, "token": start.removeprefix(LIKE)}
    return {"source": row, "special": special}


def _check(how: Resizing, tokenizer: Tokenizer, rows: int, name: str) -> None:
    if how.multiple is not None and how.multiple < 1:
        raise RecipeError(f"expected a multiple of at least 1, found {how.multiple}")
    for token, start in how.add.items():
        if not token:
            raise RecipeError("expected the text of a token, found none")
        if token in tokenizer.ids:
            raise RecipeError(f"the model has the token '{token}' already", where=name)
        other = start.removeprefix(LIKE)
        if start not in (ZERO, MEAN) and other not in tokenizer.ids:
            guess = closest(other, list(tokenizer.ids))
            hint = f"did you mean '{guess}'?" if guess else f"a start is {ZERO}, {MEAN} or a token of the model"
            raise RecipeError(f"'{token}' is to begin as '{other}', which is no token of the model", hint=hint)
    if not how.add and _rows(how, tokenizer.size, rows) == rows:
        raise RecipeError(f"nothing would change: {tokenizer.size} tokens have {rows} rows", where=name)
