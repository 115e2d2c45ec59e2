"""The compiled stages of task arithmetic against their definitions, bit for bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cuvee.ops.task_vectors import elected_sum, sparse, weighted_sum

Example = tuple[np.ndarray, np.ndarray]


@st.composite
def stacks(draw: st.DrawFn) -> Example:
    """[models, n] with zeros, equal entries and cancelling votes; and a weight a model, some of them negative."""
    models, n = draw(st.integers(1, 5)), draw(st.integers(1, 600))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    stack = generator.choice([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 0.1], (models, n)) + generator.choice(
        [0, 1e-3], (models, n)
    )
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    weights = draw(st.lists(st.sampled_from([1.0, 0.5, 0.3, -1.0, 0.0]), min_size=models, max_size=models))
    return stack.astype(dtype), np.array(weights)


def defined(stack: np.ndarray) -> np.ndarray:
    """The same numbers as [models, n, 1], which no kernel serves."""
    return stack[..., None]


@given(stacks(), st.booleans(), st.booleans(), st.sampled_from([1.0, -1.0]))
def test_the_elected_sum_is_the_same(example: Example, normalize: bool, weights_vote: bool, when_even: float) -> None:
    stack, weight = example
    options = {"normalize": normalize, "weights_vote": weights_vote, "when_even": when_even}
    compiled = elected_sum(stack, weight, **options)
    assert (compiled + 0).tobytes() == (elected_sum(defined(stack), weight, **options)[:, 0] + 0).tobytes()


@given(stacks(), st.booleans())
def test_the_weighted_sum_is_the_same(example: Example, normalize: bool) -> None:
    stack, weight = example
    compiled = weighted_sum(stack, weight, normalize=normalize)
    assert compiled.tobytes() == weighted_sum(defined(stack), weight, normalize=normalize)[:, 0].tobytes()


@given(stacks(), st.integers(0, 2**32))
def test_sparse_is_the_same(example: Example, seed: int) -> None:
    stack, weight = example
    keep = np.random.default_rng(seed).random(stack.shape) < 0.5
    compiled = sparse(stack, keep, weight)
    assert compiled.tobytes() == sparse(defined(stack), keep[..., None], weight)[..., 0].tobytes()
