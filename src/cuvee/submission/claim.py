"""The measurements that participants claim, and how they compare with those of a judge.

Weights are claimed by a digest and by a sketch: a few signed sums of each tensor, which tell how far two tensors are
apart without either being there (a count sketch: Charikar, Chen and Farach-Colton, 2002).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from cuvee.checkpoint import open_checkpoint, weights_digest
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.documents.checked import first_problem
from cuvee.errors import SubmissionError
from cuvee.submission.verdict import Agreement, PublicScores, Reproduction

BUCKETS = 16
CHUNK = 1 << 20
WEIGHTS_TOLERANCE = 1e-3
"""Relative distance of a tensor: a few numbers rounded the other way, where a method promises no more."""

FARTHEST = 2.0
"""The largest relative distance of two tensors: more is claimed by a sketch of no tensor, and may be no number."""

PREDICTIONS_TOLERANCE = 0.98
SCORES_TOLERANCE = 0.02

Number = Annotated[float, Field(allow_inf_nan=False)]

_strict = with_config(ConfigDict(extra="forbid"))


@_strict
@dataclass(frozen=True)
class Sketch:
    """A tensor's length and signed sums."""

    length: Number
    sums: Annotated[tuple[Number, ...], Field(min_length=BUCKETS, max_length=BUCKETS)]


@_strict
@dataclass(frozen=True)
class Claim:
    """The claimed measurements. Each part may be left out."""

    weights_digest: str | None = None
    sketches: Mapping[str, Sketch] = field(default_factory=dict)
    predictions: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    scores: Mapping[str, Number] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `read_claim` reads."""
        return asdict(self)


_CLAIM = TypeAdapter(Claim)


def read_claim(content: Any, where: str) -> Claim:
    """Read plain data. Raises SubmissionError for anything but a claim."""
    try:
        return _CLAIM.validate_python(content)
    except ValidationError as error:
        raise SubmissionError(first_problem(error), where=where) from error


def claim_weights(model: Path) -> Claim:
    """Return the claim of a merged model's weights."""
    return Claim(weights_digest(model), sketches(model))


def sketches(model: Path) -> dict[str, Sketch]:
    """Sketch every tensor of a model, reading all of it once in chunks."""
    with open_checkpoint(model) as checkpoint:
        found = {}
        for name, spec in checkpoint.tensors.items():
            sums, squares = np.zeros(BUCKETS), 0.0
            dtype = NUMPY[spec.dtype]
            for number, start in enumerate(range(0, spec.elements, CHUNK)):
                raw = np.empty(min(CHUNK, spec.elements - start) * dtype.itemsize, np.uint8)
                checkpoint.read_into(name, start * dtype.itemsize, [raw])
                values = raw.view(dtype).astype(np.float64)
                sums += _signed_sums(values, number)
                squares += float(values @ values)
            found[name] = Sketch(math.sqrt(squares), tuple(map(float, sums)))
    return found


def _signed_sums(values: np.ndarray, chunk: int) -> np.ndarray:
    """Add up the numbers with signs that only their places decide, in BUCKETS sums."""
    bits = np.random.Philox(key=chunk).random_raw(CHUNK // 64)
    signs = np.unpackbits(bits.astype("<u8").view(np.uint8))[: len(values)]
    signed = np.where(signs, values, -values)
    padded = np.concatenate([signed, np.zeros(-len(signed) % BUCKETS)])
    summed: np.ndarray = padded.reshape(-1, BUCKETS).sum(axis=0)
    return summed


def compare_with_claim(
    claim: Claim,
    model: Path,
    digest: str,
    predictions: Mapping[str, Mapping[str, int | str]],
    scores: PublicScores | None,
) -> Reproduction:
    """Compare a claim with a model that was built again, its answers and scores."""
    weights, distance = _weights(claim, model, digest)
    answers, agree = _predictions(claim, predictions)
    measured, gap = _scores(claim, scores)
    claimed = sum(score.task in claim.scores for score in scores.tasks) if scores else 0
    return Reproduction(weights, answers, measured, distance, agree, gap, claimed)


def _weights(claim: Claim, model: Path, digest: str) -> tuple[Agreement, float | None]:
    if claim.weights_digest is None:
        return "not_claimed", None
    if claim.weights_digest == digest:
        return "bit_identical", 0.0
    if not claim.sketches:
        return "differs", None
    distance = largest_distance(claim.sketches, sketches(model))
    return ("within_tolerance" if distance <= WEIGHTS_TOLERANCE else "differs"), distance


def largest_distance(claimed: Mapping[str, Sketch], found: Mapping[str, Sketch]) -> float:
    """Estimate the largest relative distance of two tensors of a name; a tensor that only one model has is at 1."""
    if claimed.keys() != found.keys():
        return 1.0
    return max((_distance(claimed[name], found[name]) for name in found), default=0.0)


def _distance(one: Sketch, other: Sketch) -> float:
    gap = math.dist(one.sums, other.sums)
    if not gap:
        return 0.0
    longest = max(one.length, other.length)
    return min(gap / longest, FARTHEST) if longest > 0 else FARTHEST


def _predictions(claim: Claim, found: Mapping[str, Mapping[str, int | str]]) -> tuple[Agreement, float | None]:
    pairs = []
    for task, claimed in claim.predictions.items():
        for name, answer in found.get(task, {}).items():
            pairs.append((claimed.get(name), answer))
    if not pairs:
        return "not_claimed", None
    agree = sum(one == other for one, other in pairs) / len(pairs)
    return _named(agree == 1.0, agree >= PREDICTIONS_TOLERANCE), agree


def _scores(claim: Claim, found: PublicScores | None) -> tuple[Agreement, float | None]:
    measured = {score.task: score.value for score in found.tasks} if found else {}
    gaps = [abs(claim.scores[task] - measured[task]) for task in claim.scores.keys() & measured.keys()]
    if not gaps:
        return "not_claimed", None
    largest = max(gaps)
    return _named(largest == 0.0, largest <= SCORES_TOLERANCE), largest


def _named(equal: bool, near: bool) -> Agreement:
    if equal:
        return "bit_identical"
    return "within_tolerance" if near else "differs"
