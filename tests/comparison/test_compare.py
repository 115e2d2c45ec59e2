"""Figures against plain NumPy over whole tensors, however the reading is cut; what is left out; what is refused."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cuvee
from cuvee.checkpoint import MemoryCheckpoint
from cuvee.comparison import Comparison, Figures, compare_checkpoints
from cuvee.errors import CheckpointError, RecipeError
from cuvee.testing import random_weights, write_model

DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16, np.float64)
NAMES = ("embed.weight", "layers.0.up.weight", "layers.0.up.bias", "layers.1.up.weight", "head.weight")
Model = dict[str, np.ndarray]


class Counting(MemoryCheckpoint):
    """A checkpoint that counts the bytes that were read."""

    count = 0

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        self.count += sum(part.nbytes for part in out)
        super().read_into(name, start, out)


def comparison(*models: Model, piece: int | None = None, threads: int = 1) -> Comparison:
    """Compare models in memory, the base first; they are called 0, 1, ..."""
    labels = [str(i) for i in range(len(models))]
    return compare_checkpoints([MemoryCheckpoint(m) for m in models], labels, piece=piece, threads=threads)


@st.composite
def families(draw: st.DrawFn) -> list[Model]:
    """A base and one to three models, each tensor of a type of its own; some entries are as in the base."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = {name: tuple(draw(st.lists(st.integers(0, 40), min_size=1, max_size=2))) for name in NAMES}
    types = draw(st.sampled_from([[dtype] for dtype in DTYPES] + [list(DTYPES)]))
    base = {name: generator.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    models = [base]
    for _ in range(draw(st.integers(1, 3))):
        kept = draw(st.sampled_from([0.0, 0.5, 1.0]))
        models.append({n: np.where(generator.random(a.shape) < kept, a, a * 1.5) for n, a in base.items()})
    return [{n: a.astype(draw(st.sampled_from(types))) for n, a in model.items()} for model in models]


def expected(models: list[Model], names: list[str]) -> Figures:
    """Compute the figures of some tensors together, all at once in float64."""
    flat = [np.concatenate([m[name].astype(np.float64).reshape(-1) for name in names]) for m in models]
    base, deltas = flat[0], [numbers - flat[0] for numbers in flat[1:]]
    length = np.linalg.norm(base)
    norms = [np.linalg.norm(delta) for delta in deltas]
    figures = [
        cuvee.comparison.ModelFigures(
            norm,
            norm / length if length else None,
            np.count_nonzero(d),
            np.count_nonzero(d) / d.size if d.size else 0.0,
        )
        for d, norm in zip(deltas, norms, strict=True)
    ]
    pairs = []
    for i, j in combinations(range(len(deltas)), 2):
        a, b = deltas[i], deltas[j]
        both, either = np.count_nonzero((a != 0) & (b != 0)), np.count_nonzero((a != 0) | (b != 0))
        against = np.count_nonzero(np.sign(a) * np.sign(b) < 0)
        cosine = a @ b / (norms[i] * norms[j]) if norms[i] * norms[j] else None
        shares = (both / either if either else None, against / both if both else None)
        pairs.append(cuvee.comparison.PairFigures(i, j, cosine, both, either, shares[0], against, shares[1]))
    return Figures(len(names), base.size, length, tuple(figures), tuple(pairs))


def assert_close(found: Figures, wanted: Figures) -> None:
    assert (found.tensors, found.entries) == (wanted.tensors, wanted.entries)
    assert found.base_norm == pytest.approx(wanted.base_norm, rel=1e-12)
    for got, want in zip((*found.models, *found.pairs), (*wanted.models, *wanted.pairs), strict=True):
        assert numbers(got) == pytest.approx(numbers(want), rel=1e-12, abs=1e-12, nan_ok=True)


def numbers(figures: object) -> dict[str, float]:
    return {name: np.nan if value is None else value for name, value in vars(figures).items()}


@given(models=families(), piece=st.sampled_from([1, 7, 64, 1 << 16]), threads=st.integers(1, 3))
def test_every_figure_is_that_of_plain_numpy(models: list[Model], piece: int, threads: int) -> None:
    found = comparison(*models, piece=piece, threads=threads)
    assert_close(found.total, expected(models, list(NAMES)))
    for tensor in found.tensors:
        assert_close(tensor.figures, expected(models, [tensor.name]))
    by_layer = {group.layer: group.figures for group in found.layers}
    assert_close(by_layer["layers.0"], expected(models, ["layers.0.up.weight", "layers.0.up.bias"]))
    by_role = {group.role: group.figures for group in found.roles}
    assert list(by_role) == ["up", "embed", "head"]
    assert_close(by_role["up"], expected(models, [name for name in NAMES if "up" in name]))


def test_more_threads_change_no_bit() -> None:
    base = random_weights(0)
    models = [base, random_weights(1, base=base), random_weights(2, base=base)]
    assert comparison(*models, piece=100, threads=3).to_json() == comparison(*models, piece=100).to_json()


def test_every_model_is_read_once() -> None:
    sources = [Counting({"a": np.ones(1000, np.float32), "b": np.ones((3, 5), np.float32)}) for _ in range(3)]
    compare_checkpoints(sources, ["0", "1", "2"], piece=64, threads=2)
    assert [source.count for source in sources] == [4 * 1015] * 3


def test_layers_are_in_the_order_of_their_numbers() -> None:
    model = {f"h.{i}.w": np.ones(2, np.float32) for i in (10, 9, 2)}
    assert [group.layer for group in comparison(model, model).layers] == ["h.2", "h.9", "h.10"]


def test_experts_of_a_layer_have_one_role() -> None:
    model = {f"model.layers.0.mlp.experts.{i}.up.weight": np.ones(2, np.float32) for i in (0, 1)}
    assert [group.role for group in comparison(model, model).roles] == ["mlp.experts.*.up"]


def test_what_cannot_be_compared_is_listed_with_its_reason() -> None:
    ones = np.ones(2, np.float32)
    base = {"w": ones, "longer": ones, "gone": ones, "ids": np.arange(2)}
    found = comparison(base, {"w": ones, "longer": np.ones(3, np.float32), "ids": np.arange(2), "new": ones})
    assert [tensor.name for tensor in found.tensors] == ["w"]
    assert {tensor.tensor: tensor.reason for tensor in found.left_out} == {
        "longer": "shapes differ: 2 in 0, 3 in 1",
        "gone": "not in 1",
        "ids": "holds I64, which are no weights",
        "new": "not in 0",
    }


def test_models_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(CheckpointError, match="no tensor can be compared; 'a' is not in 1"):
        comparison({"a": np.ones(2, np.float32)}, {"b": np.ones(2, np.float32)})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", [0, 1])
def test_a_number_that_is_not_finite_is_named(dtype: type, which: int) -> None:
    models = [{"w": np.ones(100, dtype)} for _ in range(2)]
    models[which]["w"][70] = np.nan
    with pytest.raises(CheckpointError, match="'w' holds nan at element 70"):
        comparison(*models, piece=64)


def test_numbers_too_large_to_square_are_no_figures() -> None:
    with pytest.raises(CheckpointError, match="'w' are too large"):
        comparison({"w": np.ones(2)}, {"w": np.full(2, 1e200)})


def test_another_type_than_the_base_is_noted() -> None:
    base = {"w": np.ones(2, np.float32)}
    assert comparison(base, base).notes == ()
    (note,) = comparison(base, base, {"w": np.ones(2, np.float16)}).notes
    assert "2 and the base 0 have tensors of other types" in note


def test_the_first_model_is_the_base_unless_another_is_named(tmp_path: Path) -> None:
    base = random_weights(0)
    folders = [write_model(tmp_path / "base", base)]
    folders += [write_model(tmp_path / f"e{i}", random_weights(i, base=base)) for i in (1, 2)]
    found = cuvee.compare(folders)
    assert found.base == str(folders[0])
    assert found.models == (str(folders[1]), str(folders[2]))
    assert found.to_json() == cuvee.compare(folders[1:], base=folders[0], threads=2).to_json()


def test_one_model_is_not_enough(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", random_weights(0))
    with pytest.raises(RecipeError, match="at least two models"):
        cuvee.compare([folder])


def test_all_models_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        cuvee.compare([tmp_path / "a", tmp_path / "b"])
    assert "/a'" in str(caught.value)
    assert "/b'" in str(caught.value)
