"""Writes a model with another model's tokenizer. Holds both embeddings in memory, the rest is streamed."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np

from cuvee.arguments import checks_options
from cuvee.checkpoint import Checkpoint, StoredFile, TensorSource, TensorSpec, open_checkpoint
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.run import MergeResult, run_with
from cuvee.errors import CheckpointError
from cuvee.hub import Hub, open_cached
from cuvee.plan import Making, Parent, make_plan
from cuvee.plan.plan import conflicts
from cuvee.plan.recipes import copy_recipe
from cuvee.plan.resolve import FoundModel
from cuvee.plan.vocabulary import SPECIAL_IDS, TOKENIZER_FILES, Vocabulary
from cuvee.structure.vocabulary import resized, vocabulary_rows, vocabulary_tensors
from cuvee.tokenizers.check import built
from cuvee.tokenizers.read import JSON, read_tokenizer
from cuvee.tokenizers.transplant import Matches, coefficients, combined, match, same_roles, subword_means

Approximation = Literal["omp", "subword"]


@checks_options
def transplant(
    model: FoundModel,
    donor: FoundModel,
    out: Path,
    *,
    method: Approximation = "omp",
    k: int = 64,
    hub: Hub | None = None,
    **options: Unpack[RunOptions],
) -> MergeResult:
    """Give a model the donor's tokenizer. `hub` is where they come from; `Options` describes the options.

    Rows of tokens that both have are copied. The others are approximated: "omp" combines at most `k` shared tokens,
    "subword" takes the mean of the pieces into which the model's own tokenizer cuts a token.
    """
    if not (donor.place / JSON).is_file():
        raise CheckpointError(f"has no {JSON} to take over", where=donor.name)
    with _opened(model) as own, _opened(donor) as other:
        replaced = _Replaced(own, other, _new_rows(own, other, model.place, donor.place, method, k))
        recipe = copy_recipe(model.name, source="transplant")
        plan = make_plan(recipe, models={recipe.models()[0]: replaced}, hub=hub)
        how = f"omp with k {k}" if method == "omp" else "the mean of subwords"
        changes = {key: value for key, value in other.config.items() if key in SPECIAL_IDS}
        vocabulary = Vocabulary(
            0,
            {**plan.config_changes, **changes, **resized(own.config, replaced.rows)},
            {name: _text(donor.place / name) for name in _texts(donor.place)},
            frozenset(TOKENIZER_FILES),
            (f"the tokenizer of {donor.name}, missing rows by {how}",),
        )
        parents = (Parent(model.name, own, model.repository), Parent(donor.name, other, donor.repository))
        made = replace(
            plan,
            recipe=replace(plan.recipe, text=""),
            vocabulary=vocabulary,
            config_changes=vocabulary.config_changes,
            warnings=(*plan.warnings, *conflicts(parents)),
            notes=(*plan.notes, *vocabulary.notes),
            making=_making(parents, method, k),
        )
        return run_with(replace(Options(**options), resume=False), made, out)


def _opened(model: FoundModel) -> Checkpoint:
    return open_cached(model.repository) if model.repository is not None else open_checkpoint(model.place)


def _making(parents: tuple[Parent, Parent], method: Approximation, k: int) -> Making:
    model, donor = (parent.name for parent in parents)
    how = f"--k {k}" if method == "omp" else "--method subword"
    command = f"cuvee tokenizer transplant {shlex.quote(model)} {shlex.quote(donor)} OUT {how}"
    return Making(
        command=command,
        title=f"{Path(model).name} with the tokenizer of {Path(donor).name}",
        how=f"The model `{model}` with the tokenizer of `{donor}`.",
        parents=parents,
        recipe_digest=hashlib.sha256(command.encode()).hexdigest(),
        reproducible="tolerance",
        tags=("transplant",),
        record={"kind": "transplant", "command": command},
    )


class _Replaced:
    """A checkpoint of which some tensors are others."""

    def __init__(self, source: Checkpoint, donor: TensorSource, arrays: Mapping[str, np.ndarray]) -> None:
        self.source = source
        self.donor = donor
        self.arrays = arrays
        self.config = source.config
        self.place = source.place
        self.rows = max(array.shape[0] for array in arrays.values())
        shaped = {name: replace(source.tensors[name], shape=array.shape) for name, array in arrays.items()}
        self.tensors: Mapping[str, TensorSpec] = dict(source.tensors) | shaped

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        if name not in self.arrays:
            self.source.read_into(name, start, out)
            return
        raw = self.arrays[name].reshape(-1).view(np.uint8)
        for part in out:
            part.view(np.uint8)[:] = raw[start : start + part.nbytes]
            start += part.nbytes

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        if name not in self.arrays:
            self.source.will_read(name, start, nbytes)

    def files(self) -> dict[str, StoredFile]:
        donors = {f"donor/{name}": file for name, file in self.donor.files().items()}
        return {**self.source.files(), **donors}


def _new_rows(
    own: Checkpoint, donor: Checkpoint, model: Path, place: Path, method: Approximation, k: int
) -> dict[str, np.ndarray]:
    """Return the model's tensors of tokens with a row for each of the donor's."""
    rows, donor_rows = _rows(own, model), _rows(donor, place)
    tokenizers = read_tokenizer(model), read_tokenizer(place)
    matches = match(*tokenizers, (rows, donor_rows), same_roles(own.config, donor.config))
    if not len(matches.own_rows):
        raise CheckpointError("the tokenizers have no token in common", where=str(place))
    theirs = vocabulary_tensors(donor.tensors, donor_rows)
    made = {}
    for name in vocabulary_tensors(own.tensors, rows):
        old = own.read(name).astype(np.float64)
        if old.ndim == 1 or len(old) == 1:
            filled = np.full((len(matches.lacking), 1), old.mean())
        elif method == "subword":
            filled = subword_means(list(matches.lacking), tokenizers[1], old, _cutter(model))
        else:
            same = name if name in theirs else theirs[0]  # a tied model's head is its embedding
            filled = _pursued(old, donor.read(same).astype(np.float64), matches, k)
        made[name] = _assembled(old, filled, matches, donor_rows).astype(NUMPY[own.tensors[name].dtype])
    return made


def _rows(checkpoint: Checkpoint, place: Path) -> int:
    rows = vocabulary_rows(checkpoint.tensors, checkpoint.config)
    if rows is None or not vocabulary_tensors(checkpoint.tensors, rows):
        raise CheckpointError("has no embedding of tokens", where=str(place))
    return rows


def _pursued(old: np.ndarray, donor: np.ndarray, matches: Matches, k: int) -> np.ndarray:
    chosen, amounts = coefficients(donor[matches.lacking], donor[matches.donor_rows], k)
    return combined(old[matches.own_rows], chosen, amounts)


def _assembled(old: np.ndarray, filled: np.ndarray, matches: Matches, count: int) -> np.ndarray:
    """Put the rows in the donor's places; a row of no token gets the mean of all rows."""
    is_column = old.ndim == 1
    is_row = not is_column and len(old) == 1
    is_vector = is_column or is_row
    flat = old.reshape(-1, 1) if is_vector else old
    made = np.tile(flat.mean(axis=0), (count, 1))
    made[matches.donor_rows] = flat[matches.own_rows]
    made[matches.lacking] = filled
    if is_column:
        return made.reshape(count)
    return made.reshape(1, count) if is_row else made


def _cutter(model: Path) -> Any:
    """Return how the model's own tokenizer cuts a text into pieces."""
    tokenizer = read_tokenizer(model)
    if tokenizer.content is None:
        raise CheckpointError(f"has no {JSON} to cut texts with", where=str(model))
    library = built(tokenizer.content)
    return lambda text: library.encode(text, add_special_tokens=False).ids


def _texts(donor: Path) -> list[str]:
    """List the donor's tokenizer files; other forms of its tokenizer.json are left."""
    texts = [name for name in TOKENIZER_FILES if not name.endswith(".model")]
    return [name for name in texts if (donor / name).is_file()]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
