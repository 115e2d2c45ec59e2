"""Task vectors of a tile: a piece of a block small enough for the first-level cache."""

from typing import Any

from cuvee.kernels.fused.numbers import compiled, load, rounded


@compiled
def load_base(rows: Any, first: Any, last: Any, subtracts: Any, base: Any) -> None:
    if not subtracts:
        return
    row = rows[rows.shape[0] - 1, first:last]
    for i in range(row.size):
        base[i] = load(row[i])


@compiled
def load_model(rows: Any, model: Any, first: Any, last: Any, subtracts: Any, base: Any, kind: Any, out: Any) -> None:
    row = rows[model, first:last]
    if subtracts:
        for i in range(row.size):
            out[i] = rounded(kind, load(row[i]) - base[i])
    else:
        for i in range(row.size):
            out[i] = load(row[i])
