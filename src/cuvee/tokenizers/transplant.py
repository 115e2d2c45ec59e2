"""A model with another model's tokenizer: rows of tokens that it lacks are made of rows that it has.

For a token of the donor that the model has, the row is copied. Otherwise it is approximated:

- `omp`: orthogonal matching pursuit (Goddard and Neto, arXiv:2506.06607): the donor's row as a sparse combination of
  the donor's rows of at most k shared tokens, found greedily; the same coefficients then combine the model's own rows.
- `subword`: the mean of the model's rows of the pieces into which its own tokenizer cuts the token's text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuvee.tokenizers.read import Tokenizer

ENOUGH = 1e-6
"""A residual below this share of the row's length ends the search."""

MOST_PRODUCTS = 1 << 23
"""Inner products held at once."""

ROLES = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")


@dataclass(frozen=True)
class Matches:
    """The tokens of the donor that the model has: rows of both, and the donor's other rows."""

    donor_rows: np.ndarray
    own_rows: np.ndarray
    lacking: np.ndarray


def text_of(token: str, tokenizer: Tokenizer) -> str | None:
    """Return the text of a token, with a space for the mark of a word's start; None if it stands for no text."""
    if token in tokenizer.added:
        return None
    if tokenizer.is_byte_level:
        return _from_bytes(token)
    if tokenizer.kind == "WordPiece":
        return token.removeprefix("##") if token.startswith("##") else f" {token}"
    return token.replace("▁", " ")


def match(own: Tokenizer, donor: Tokenizer, rows: tuple[int, int], roles: Mapping[int, int]) -> Matches:
    """Find the tokens that both have, by their texts, whatever their tokenizers write for a space.

    `rows` are how many each has. `roles` maps special tokens of the donor to those of the same role, such as the end.
    """
    known: dict[str, int] = {}
    for token in own.tokens:
        if own.ids[token] < rows[0]:
            known.setdefault(_key(token, own), own.ids[token])
    pairs, lacking = [], []
    for token in donor.tokens:
        number = donor.ids[token]
        if number >= rows[1]:
            continue
        found = known.get(_key(token, donor), roles.get(number))
        if found is None:
            lacking.append(number)
        else:
            pairs.append((number, found))
    listed = np.array(pairs, np.int64).reshape(-1, 2)
    return Matches(listed[:, 0], listed[:, 1], np.array(lacking, np.int64))


def same_roles(own: Mapping[str, Any], donor: Mapping[str, Any]) -> dict[int, int]:
    """Return which special token of the donor's config.json is which of the model's."""
    roles: dict[int, int] = {}
    for key in reversed(ROLES):  # of a token with two roles the first counts
        theirs, ours = donor.get(key), own.get(key)
        if type(theirs) is int and type(ours) is int:
            roles[theirs] = ours
    return roles


def _key(token: str, tokenizer: Tokenizer) -> str:
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    if byte:
        return f"byte {int(byte[1], 16)}"
    text = text_of(token, tokenizer)
    if text is not None:
        return f"text {text}"
    if token in _BYTES and tokenizer.is_byte_level:
        return f"byte {_BYTES[token]}"
    return f"token {token}"


def coefficients(targets: np.ndarray, atoms: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Approximate each target by at most k atoms. Returns the atoms' numbers and coefficients, both [targets, k].

    Orthogonal matching pursuit: take the atom with the largest inner product with the residual, then solve for all
    coefficients anew by least squares. Of equal atoms the first is taken. Unused places have coefficient 0.
    """
    k = min(k, len(atoms), atoms.shape[1])
    chosen = np.zeros((len(targets), k), np.int64)
    amounts = np.zeros((len(targets), k))
    batch = max(1, MOST_PRODUCTS // max(1, len(atoms), k * atoms.shape[1]))
    for first in range(0, len(targets), batch):
        part = slice(first, first + batch)
        chosen[part], amounts[part] = _pursue(targets[part], atoms, k)
    return chosen, amounts


def _pursue(targets: np.ndarray, atoms: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(targets)
    chosen = np.zeros((count, k), np.int64)
    amounts = np.zeros((count, k))
    residual = targets.copy()
    basis = np.zeros((count, k, targets.shape[1]))
    corner = np.zeros((count, k, k))
    steps = np.zeros(count, np.int64)
    wanted = np.linalg.norm(targets, axis=1)
    active = wanted > 0
    for step in range(k):
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        inner = np.abs(residual[rows] @ atoms.T)
        np.put_along_axis(inner, chosen[rows, :step], -1.0, axis=1)
        best = inner.argmax(axis=1)
        atom = atoms[best]
        along = np.einsum("nkd,nd->nk", basis[rows, :step], atom)
        rest = atom - np.einsum("nk,nkd->nd", along, basis[rows, :step])
        again = np.einsum("nkd,nd->nk", basis[rows, :step], rest)  # twice is enough: Gram-Schmidt loses digits once
        rest -= np.einsum("nk,nkd->nd", again, basis[rows, :step])
        length = np.linalg.norm(rest, axis=1)
        new = length > ENOUGH * np.linalg.norm(atom, axis=1)
        active[rows[~new]] = False
        rows, best, rest, length, along = rows[new], best[new], rest[new], length[new], (along + again)[new]
        chosen[rows, step] = best
        basis[rows, step] = rest / length[:, None]
        corner[rows, :step, step] = along
        corner[rows, step, step] = length
        steps[rows] = step + 1
        share = np.einsum("nd,nd->n", basis[rows, step], residual[rows])
        residual[rows] -= share[:, None] * basis[rows, step]
        active[rows] &= np.linalg.norm(residual[rows], axis=1) > ENOUGH * wanted[rows]
    for row in range(count):
        n = steps[row]
        if n:
            amounts[row, :n] = np.linalg.solve(corner[row, :n, :n], basis[row, :n] @ targets[row])
    return chosen, amounts


def combined(rows: np.ndarray, chosen: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Return the combinations of rows that coefficients name."""
    made = np.zeros((len(chosen), rows.shape[1]))
    for place in range(len(chosen)):
        made[place] = amounts[place] @ rows[chosen[place]]
    return made


def subword_means(
    numbers: Sequence[int], donor: Tokenizer, own_rows: np.ndarray, cut: Callable[[str], Sequence[int]]
) -> np.ndarray:
    """Return for each of the donor's tokens the mean row of the pieces that `cut` makes of its text.

    A token without a text, such as a special token, gets the mean of all rows.
    """
    tokens: Mapping[int, str] = {number: token for token, number in donor.ids.items()}
    mean_row = own_rows.mean(axis=0, dtype=np.float64)
    means = np.tile(mean_row, (len(numbers), 1))
    for place, number in enumerate(numbers):
        text = text_of(tokens[number], donor)
        if not text:
            continue
        pieces = [piece for piece in cut(text) if piece < len(own_rows)]
        if pieces:
            means[place] = own_rows[pieces].mean(axis=0, dtype=np.float64)
    return means


def _from_bytes(token: str) -> str | None:
    """Return the text of a byte-level token; None if its bytes are part of a character only."""
    try:
        return bytes(_BYTES[letter] for letter in token).decode()
    except (KeyError, UnicodeDecodeError):
        return None


def _alphabet() -> dict[str, int]:
    """Return GPT-2's letters for bytes: printable bytes stand for themselves, the others for 256 and following."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    alphabet = {chr(byte): byte for byte in shown}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _alphabet()
