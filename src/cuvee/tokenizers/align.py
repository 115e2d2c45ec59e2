"""Row maps: for each model and each row of the output, which row of which model it is.

As mergekit does it: a token that a model has keeps the model's own row. The row of a token that it lacks comes from a
rule of the recipe; or from the only model that has it; or from the base; or is the mean over the models that have it;
or is zeros if none has it. Unlike mergekit the rows beyond the tokens, the padding, are kept as the base has them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cuvee.errors import RecipeError, closest
from cuvee.tokenizers.read import Tokenizer
from cuvee.tokenizers.rows import FILLED, MEAN, OWN_MEAN, Fill, RowMap


@dataclass(frozen=True)
class Party:
    """A model that takes part: its vocabulary and how many rows its embedding has."""

    tokenizer: Tokenizer
    rows: int

    def row(self, token: str) -> int | None:
        """Return a token's row; None for a token that the model lacks or has no row for."""
        number = self.tokenizer.ids.get(token)
        if number is None or number >= self.rows:
            return None
        return number


@dataclass(frozen=True)
class Filling:
    """A rule of the recipe: the row of `token` is `fill` in models that lack it, or in all of them.

    Without a fill it is the mean of each model's own rows.
    """

    token: str
    fill: Fill | None
    force: bool


def padded_rows(tokens: int, rows_of_base: int, multiple: int | None) -> int:
    """Return how many rows the output has: the base's unless there are more tokens, or as many as are asked for."""
    if multiple is None:
        return max(tokens, rows_of_base)
    return -(-tokens // multiple) * multiple


def row_maps(
    ids: Mapping[str, int],
    rows: int,
    parties: Sequence[Party],
    *,
    base: int | None = None,
    keeper: int = 0,
    fillings: Sequence[Filling] = (),
) -> tuple[RowMap, ...]:
    """Return each model's row map to a vocabulary `ids` of `rows` rows.

    `base` is whose rows go before a mean, `keeper` is whose padding is kept.
    """
    own = np.full((len(parties), rows), FILLED, np.int64)
    for m, party in enumerate(parties):
        for token, number in ids.items():
            row = party.row(token)
            if row is not None:
                own[m, number] = row
    fills = _asked(ids, own, fillings)
    for number in ids.values():
        if number not in fills and (own[:, number] == FILLED).any():
            fills[number] = _natural(own[:, number], base)
    _pad(ids, own, fills, parties, keeper)
    tokens = max(ids.values(), default=-1) + 1
    maps = []
    for m in range(len(parties)):
        lacking = {number: fill for number, fill in fills.items() if own[m, number] == FILLED}
        maps.append(RowMap(own[m], lacking, tokens))
    return tuple(maps)


def _asked(ids: Mapping[str, int], own: np.ndarray, fillings: Sequence[Filling]) -> dict[int, Fill]:
    fills: dict[int, Fill] = {}
    for filling in fillings:
        number = ids.get(filling.token)
        if number is None:
            guess = closest(filling.token, list(ids))
            hint = f"did you mean '{guess}'?" if guess else None
            raise RecipeError(f"the output's tokenizer has no token '{filling.token}'", hint=hint)
        if filling.force:
            own[:, number] = FILLED
        if filling.fill is not None:
            fills[number] = filling.fill
        else:
            own[own[:, number] == FILLED, number] = OWN_MEAN
    return fills


def _natural(column: np.ndarray, base: int | None) -> Fill:
    holders = [int(m) for m in np.flatnonzero(column >= 0)]
    if base is not None and base in holders:
        holders = [base]
    return tuple((m, int(column[m])) for m in holders)


def _pad(
    ids: Mapping[str, int], own: np.ndarray, fills: dict[int, Fill], parties: Sequence[Party], keeper: int
) -> None:
    """Give rows that are no token: a model's own padding, else the keeper's, else the mean of its tokens' rows."""
    free = np.ones(own.shape[1], bool)
    free[list(ids.values())] = False
    padding = [set(range(party.rows)) - set(party.tokenizer.ids.values()) for party in parties]
    for number in map(int, np.flatnonzero(free)):
        substitute = MEAN
        if number in padding[keeper]:
            fills[number] = ((keeper, number),)
            substitute = FILLED
        for m, rows_of_padding in enumerate(padding):
            own[m, number] = number if number in rows_of_padding else substitute


def same_tokens_maps(rows: Sequence[int], base: int) -> tuple[RowMap, ...]:
    """Return the row maps of models with the same tokenizer and different padding: to the base's number of rows."""
    count = rows[base]
    result = []
    for have in rows:
        own = np.arange(count)
        own[have:] = FILLED
        fills: dict[int, Fill] = {number: ((base, number),) for number in range(have, count)}
        result.append(RowMap(own, fills, min(rows)))
    return tuple(result)
