"""Statistics of the inputs of a model's linear maps on a text, read from a folder: no torch, nothing but NumPy.

`statistics.json` says of which model, text and inputs they are, `statistics.safetensors` holds the numbers. A site is
an input that several weights share; its numbers are stored once, under KIND/SITE. A Gram matrix XᵀX/n is stored in one
of three forms: whole [in, in]; as `rows`, some of the positions [n, in]; or as `factor` [rank, in], its strongest
directions, with `rest` [in], the diagonal of the remainder. The diagonal of the Fisher information is not of a site:
it has the shape of a tensor, and is stored under fisher/TENSOR.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cuvee.checkpoint import Checkpoint, TensorSource, open_checkpoint
from cuvee.checkpoint.checkpoint import sampled_blake3
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.documents.checked import first_problem
from cuvee.errors import CheckpointError

STATISTICS_FILE = "statistics.safetensors"
RECORD_FILE = "statistics.json"

Kind = Literal["gram", "mean_abs", "mean", "fisher"]
"""What can be kept of a site: the second moments of its inputs, the means of their absolute values, their means; and of
each tensor, the mean squares of the gradients of a document's loss."""

FISHER: Kind = "fisher"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=(), validate_by_name=True, validate_by_alias=True)


class ModelRecord(_Part):
    """The model that was run.

    `fingerprint` is of sampled contents of its weights, by name; `tokens_digest` of which
    token has which id, None where its tokenizer is not understood.
    """

    name: str
    weights_digest: str
    fingerprint: str
    tokens_digest: str | None


class TextRecord(_Part):
    """The text that it was shown: `digest` is of the token ids, `counted` how many positions count.

    `unread` tokens lie behind the cut of their documents.
    """

    name: str
    digest: str
    documents: int
    tokens: int
    counted: int
    positions: Literal["all", "answer", "prompt"]
    length: int
    unread: int = 0


class Figures(_Part):
    """The cost of a collection."""

    seconds: float
    peak_memory_bytes: int


class Record(_Part):
    """The content of `statistics.json`. `sites` maps each site to the checkpoint's tensors that it is the input of.

    `loss` is the mean negative log-likelihood in nats of a token of the answers, or of any token of a text without.
    `fisher_length` is the length of the diagonal of the Fisher information over the whole model, where it is kept.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: ModelRecord
    text: TextRecord
    keep: tuple[Kind, ...]
    rows: int | None
    rank: int | None
    loss: float | None
    loss_tokens: int
    fisher_length: float | None = None
    dtype: str
    device: str
    versions: Mapping[str, str | None]
    sites: Mapping[str, tuple[str, ...]]
    figures: Figures

    @property
    def kinds_of_sites(self) -> list[Kind]:
        """The kinds that are kept of each site, and not of each tensor."""
        return [kind for kind in self.keep if kind != FISHER]


class Statistics:
    """The statistics of one folder. Numbers are read when they are asked for."""

    def __init__(self, folder: Path, record: Record, numbers: Checkpoint, digest: str) -> None:
        self.folder = folder
        self.record = record
        self.digest = digest
        self._numbers = numbers
        self._sites = {tensor: site for site, tensors in record.sites.items() for tensor in tensors}

    def has(self, kind: Kind, tensor: str) -> bool:
        """Say whether there are statistics of a kind for the input of a tensor, or for the tensor itself."""
        if kind == FISHER:
            return f"{FISHER}/{tensor}" in self._numbers.tensors
        return tensor in self._sites and self._is_stored(kind, self._sites[tensor])

    def width(self, kind: Kind, tensor: str) -> int:
        """Return the size of a tensor's input."""
        site = self._sites[tensor]
        name = next(name for name in _forms(kind, site) if name in self._numbers.tensors)
        return int(self._numbers.tensors[name].shape[-1])

    def gram(self, tensor: str) -> np.ndarray:
        """Return the Gram matrix XᵀX/n [in, in] of a tensor's inputs in float64, whatever form it is stored in."""
        site = self._sites[tensor]
        if f"gram/{site}" in self._numbers.tensors:
            return self._read(f"gram/{site}")
        if f"rows/{site}" in self._numbers.tensors:
            rows = self._read(f"rows/{site}")
            return np.asarray(rows.T @ rows / len(rows))
        factor = self._read(f"factor/{site}")
        gram: np.ndarray = factor.T @ factor
        gram[np.diag_indices_from(gram)] += self._read(f"rest/{site}")
        return gram

    def mean_abs(self, tensor: str) -> np.ndarray:
        """Return the mean absolute value [in] of each channel of a tensor's inputs, in float64."""
        return self._read(f"mean_abs/{self._sites[tensor]}")

    def fisher_shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor's diagonal of the Fisher information, which is the tensor's own."""
        return tuple(self._numbers.tensors[f"{FISHER}/{tensor}"].shape)

    def fisher(self, tensor: str, start: int, count: int) -> np.ndarray:
        """Return `count` entries from `start` on of a tensor's diagonal of the Fisher information, in float64.

        They are divided by its length over the whole model, so that of each model they count alike.
        """
        name = f"{FISHER}/{tensor}"
        stored = np.empty(count, NUMPY[self._numbers.tensors[name].dtype])
        self._numbers.read_into(name, start * stored.itemsize, [stored])
        entries: np.ndarray = stored.astype(np.float64)
        if not np.isfinite(entries).all() or (entries < 0).any():
            raise CheckpointError(f"'{name}' has numbers that are no mean squares", where=str(self.folder))
        length = self.record.fisher_length
        return entries / length if length else entries

    def gram_bytes(self, tensor: str) -> int:
        """Return the most bytes that `gram` holds at once: the matrix twice, and its parts."""
        site = self._sites[tensor]
        specs = [self._numbers.tensors[name] for name in _forms("gram", site) if name in self._numbers.tensors]
        return 2 * 8 * self.width("gram", tensor) ** 2 + sum(spec.nbytes + 8 * spec.elements for spec in specs)

    def _is_stored(self, kind: Kind, site: str) -> bool:
        return any(name in self._numbers.tensors for name in _forms(kind, site))

    def _read(self, name: str) -> np.ndarray:
        numbers: np.ndarray = self._numbers.read(name).astype(np.float64)
        if not np.isfinite(numbers).all():
            raise CheckpointError(f"'{name}' has numbers that are not finite", where=str(self.folder))
        return numbers

    @cached_property
    def tensors(self) -> Mapping[str, str]:
        """The checkpoint's tensors that have statistics, and the site of each."""
        return self._sites


def _forms(kind: Kind, site: str) -> Sequence[str]:
    words = ("gram", "rows", "factor", "rest") if kind == "gram" else (kind,)
    return [f"{word}/{site}" for word in words]


def open_statistics(folder: Path) -> Statistics:
    """Open the statistics in a folder. Raises CheckpointError for a folder that is incomplete, or holds none."""
    file = folder / RECORD_FILE
    try:
        text = file.read_bytes()
    except FileNotFoundError as error:
        hint = "`cuvee calibrate MODEL TEXT OUT` writes them"
        raise CheckpointError(
            f"there is no {RECORD_FILE}, so these are no statistics", where=str(folder), hint=hint
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read the file: {error.strerror}", where=str(file)) from error
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        raise CheckpointError(first_problem(error), where=str(file)) from error
    numbers = open_checkpoint(folder / STATISTICS_FILE)
    _check_complete(record, numbers, folder)
    stored = next(iter(numbers.files().values()))
    digest = blake3(text + f"{stored.header_blake3} {stored.sampled_blake3}".encode()).hexdigest()
    return Statistics(folder, record, numbers, digest)


def _check_complete(record: Record, numbers: Checkpoint, folder: Path) -> None:
    where = str(folder / STATISTICS_FILE)
    if FISHER in record.keep and not _has_fisher(numbers):
        raise CheckpointError(f"'{FISHER}' is missing", where=where)
    for kind, site in product(record.kinds_of_sites, record.sites):
        if numbers.tensors.keys().isdisjoint(_forms(kind, site)):
            raise CheckpointError(f"'{kind}' of '{site}' is missing", where=where)


def _has_fisher(numbers: Checkpoint) -> bool:
    return any(name.startswith(f"{FISHER}/") for name in numbers.tensors)


def fingerprint(source: TensorSource) -> str:
    """Return a digest of a model's names, types, shapes and sampled numbers, however its files are cut.

    Folders of weights that nothing in the model names as a part of it do not count.
    """
    if isinstance(source, Checkpoint) and source.others:
        source = source.without(source.others)
    return sampled_blake3(source, [source.tensors[name] for name in sorted(source.tensors)])
