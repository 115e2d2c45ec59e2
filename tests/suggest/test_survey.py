"""One pass over the models: the same figures as a comparison, however it is cut, and refusals in one message."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cuvee.checkpoint import MemoryCheckpoint
from cuvee.comparison import compare_checkpoints
from cuvee.errors import CheckpointError
from cuvee.progress import Silent
from cuvee.suggest.suggest import suggest
from cuvee.suggest.survey import Survey, survey
from cuvee.testing import random_weights, write_model

Model = dict[str, np.ndarray]
BASE = random_weights(0)
EXPERTS = [random_weights(seed, base=BASE) for seed in (1, 2, 3)]


def surveyed(*models: Model, threads: int = 1, piece: int | None = None) -> Survey:
    sources = [MemoryCheckpoint(model) for model in models]
    labels = ["base", *(f"expert {number}" for number in range(1, len(models)))]
    return survey(sources, labels, threads=threads, progress=Silent(), piece=piece)


class Counting(MemoryCheckpoint):
    """A checkpoint that counts the bytes that were read."""

    count = 0

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        self.count += sum(part.nbytes for part in out)
        super().read_into(name, start, out)


def test_the_tensors_are_counted() -> None:
    assert surveyed(BASE, *EXPERTS).figures.tensors == len(BASE)


def test_norms_cosines_and_conflicts_are_those_of_a_comparison() -> None:
    sources = [MemoryCheckpoint(model) for model in (BASE, *EXPERTS)]
    total = compare_checkpoints(sources, ["b", "1", "2", "3"]).total
    changes = surveyed(BASE, *EXPERTS).changes
    assert changes.norms == tuple(model.relative_norm for model in total.models)
    assert changes.cosines == tuple(pair.cosine for pair in total.pairs)
    assert changes.conflicts == tuple(pair.sign_conflict for pair in total.pairs)


def test_every_model_is_read_once() -> None:
    sources = [Counting(model) for model in (BASE, *EXPERTS)]
    survey(sources, ["b", "1", "2", "3"], threads=2, progress=Silent())
    assert [source.count for source in sources] == [sum(a.nbytes for a in BASE.values())] * 4


def test_threads_change_no_bit_and_pieces_hardly_any() -> None:
    whole = surveyed(BASE, *EXPERTS).changes
    assert surveyed(BASE, *EXPERTS, threads=3).changes == whole
    cut = surveyed(BASE, *EXPERTS, piece=300).changes
    assert cut.overlaps == pytest.approx(whole.overlaps, rel=1e-3)
    assert cut.ranks == pytest.approx(whole.ranks, rel=1e-3)


def test_experts_that_change_the_same_directions_share_them() -> None:
    generator = np.random.default_rng(0)
    left, other, right = (generator.standard_normal((64, 8)) for _ in range(3))
    zeros = {"layers.0.up.weight": np.zeros((64, 64), np.float32)}
    models = [{"layers.0.up.weight": (a @ right.T).astype(np.float32)} for a in (left, other)]
    changes = surveyed(zeros, *models).changes
    assert changes.overlaps[0] == pytest.approx(1, abs=1e-3)
    assert all(1 <= rank <= 8 * 1.3 for rank in changes.ranks)


def test_shards_change_nothing(tmp_path: Path) -> None:
    whole = [write_model(tmp_path / f"whole-{n}", model) for n, model in enumerate((BASE, *EXPERTS))]
    cut = [write_model(tmp_path / f"cut-{n}", model, shard_bytes=9000) for n, model in enumerate((BASE, *EXPERTS))]
    assert len(list(cut[0].glob("*.safetensors"))) > 1
    own, other = suggest(cut).survey.changes, suggest(whole).survey.changes
    for field in ("norms", "ranks", "cosines", "conflicts", "overlaps"):
        assert getattr(own, field) == pytest.approx(getattr(other, field), rel=1e-9)


def test_models_with_other_layers_are_refused_in_one_message() -> None:
    base = {f"layers.{layer}.up.weight": np.ones((20, 20), np.float32) for layer in range(6)}
    expert = {name: 2 * array for name, array in base.items()}
    shorter = {name: 3 * array for name, array in base.items() if "layers.0" in name}
    with pytest.raises(CheckpointError, match=r"'layers.1.up.weight' is not in expert 2; .*; and 2 more"):
        surveyed(base, expert, shorter)


def test_models_of_other_shapes_are_refused() -> None:
    with pytest.raises(CheckpointError, match="shapes differ: 20×20 in base, 30×20 in expert 1"):
        surveyed({"layers.0.w": np.ones((20, 20), np.float32)}, {"layers.0.w": np.ones((30, 20), np.float32)})


def test_a_larger_vocabulary_is_left_out_and_told() -> None:
    base = {"embed": np.ones((20, 20), np.float32), "layers.0.w": np.ones((20, 20), np.float32)}
    larger = {"embed": np.ones((22, 20), np.float32), "layers.0.w": np.zeros((20, 20), np.float32)}
    assert [tensor.tensor for tensor in surveyed(base, larger).left_out] == ["embed"]


def test_an_expert_that_is_the_base_is_refused() -> None:
    with pytest.raises(CheckpointError, match="expert 2: this expert changes nothing"):
        surveyed(BASE, EXPERTS[0], BASE)
