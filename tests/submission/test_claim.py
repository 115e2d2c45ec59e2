"""Claims are compared by digest, by sketches that tell distances, by answers and by scores."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.checkpoint import weights_digest
from cuvee.evaluation import Score
from cuvee.submission.claim import (
    BUCKETS,
    FARTHEST,
    Claim,
    Sketch,
    claim_weights,
    compare_with_claim,
    largest_distance,
    read_claim,
    sketches,
)
from cuvee.submission.verdict import PublicScores
from cuvee.testing import random_weights, write_model

WEIGHTS = random_weights(0)
ANSWERS = {"sort": {str(i): "1 2" for i in range(100)}}


def scores(value: float) -> PublicScores:
    one = Score("sort", "exact_match", 100, value, 0.05, value - 0.1, value + 0.1)
    return PublicScores(one, (one,), {"sort": (1.0,)})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m", WEIGHTS)


def changed(folder: Path, relative: float) -> Path:
    """Write the model with every tensor moved by a relative distance, in a random direction."""
    generator = np.random.default_rng(1)

    def moved(array: np.ndarray) -> np.ndarray:
        noise = generator.standard_normal(array.shape)
        return (array + noise * relative * np.linalg.norm(array) / np.linalg.norm(noise)).astype(np.float32)

    return write_model(folder / "moved", {name: moved(array) for name, array in WEIGHTS.items()})


def compared(claim: Claim, model: Path, share: int = 100, score: float = 0.5) -> tuple[str, str, str]:
    answers = {"sort": {str(i): "1 2" if i < share else "2 1" for i in range(100)}}
    found = compare_with_claim(claim, model, weights_digest(model), answers, scores(score))
    return found.weights, found.predictions, found.scores


def test_a_claim_comes_back(model: Path) -> None:
    claim = claim_weights(model)
    assert read_claim(claim.to_json(), "claim.json") == claim


def test_the_same_is_bit_identical(model: Path) -> None:
    claim = Claim(weights_digest(model), sketches(model), ANSWERS, {"sort": 0.5})
    assert compared(claim, model) == ("bit_identical",) * 3


def test_a_claim_of_the_largest_numbers_is_far_and_no_more(model: Path) -> None:
    largest = {name: Sketch(0.0, (1.7e308,) * BUCKETS) for name in sketches(model)}
    found = compare_with_claim(Claim("another", largest), model, weights_digest(model), {}, None)
    assert (found.weights, found.weights_distance) == ("differs", FARTHEST)


def test_nothing_claimed_is_nothing_compared(model: Path) -> None:
    assert compared(Claim(), model) == ("not_claimed",) * 3


def test_a_little_is_within_tolerance_and_more_differs(model: Path, tmp_path: Path) -> None:
    claim = Claim(weights_digest(model), sketches(model), ANSWERS, {"sort": 0.5})
    near, far = changed(tmp_path / "near", 1e-5), changed(tmp_path / "far", 0.05)
    assert compared(claim, near, 99, 0.51) == ("within_tolerance",) * 3
    assert compared(claim, far, 90, 0.6) == ("differs",) * 3
    assert compared(Claim(weights_digest(model)), near)[0] == "differs"


@settings(max_examples=10)
@given(st.sampled_from([1e-6, 1e-4, 1e-2, 0.5]))
def test_a_sketch_tells_the_distance(relative: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        one, other = write_model(place / "one", WEIGHTS), changed(place, relative)
        found = largest_distance(sketches(one), sketches(other))
    assert relative / 3 < found < relative * 4


def test_another_set_of_tensors_is_far_away(model: Path, tmp_path: Path) -> None:
    fewer = write_model(tmp_path / "fewer", {name: array for name, array in WEIGHTS.items() if "norm" not in name})
    assert largest_distance(sketches(model), sketches(fewer)) == 1.0
