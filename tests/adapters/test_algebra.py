"""The mathematics of combinations against dense matrices, in float64."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.made import Factors, read_changes, write_adapter
from cuvee.adapters import open_adapter
from cuvee.adapters.low_rank import Product, Wanted, joined
from cuvee.engine.combine import AdapterResult, How, combine
from cuvee.errors import CheckpointError, RecipeError

OUT, INTO = 96, 64
FIRST = {"layers.0.q": 16, "layers.0.v": 16}
SECOND = {"layers.0.q": 8, "layers.0.o": 8}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of rank 16 and 8 with other scales and other target modules."""
    root = tmp_path_factory.mktemp("pair")
    first = write_adapter(root / "a", FIRST, seed=1, shape=(OUT, INTO), alpha=32)
    return first, write_adapter(root / "b", SECOND, seed=2, shape=(OUT, INTO), alpha=4)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of total rank 28 on one module."""
    root = tmp_path_factory.mktemp("three")
    ranks = (16, 8, 4)
    return [write_adapter(root / str(r), {"layers.0.q": r}, seed=r, shape=(OUT, INTO), alpha=2 * r) for r in ranks]


def run(folders: Sequence[Path], out: Path, weights: Sequence[float], **how: Any) -> AdapterResult:
    return combine([open_adapter(folder) for folder in folders], weights, out, How(**how))


def dense(folders: Sequence[Path], weights: Sequence[float], module: str) -> np.ndarray:
    changes = [read_changes(folder).get(module, np.zeros((OUT, INTO))) for folder in folders]
    return np.asarray(sum(w * change for w, change in zip(weights, changes, strict=True)))


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_ranks_scales_and_modules_may_differ(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = run(pair, tmp_path / "out", [0.5, 0.5])
    found = read_changes(made.folder)
    for module in ("layers.0.q", "layers.0.v", "layers.0.o"):
        assert error(found[module], dense(pair, [0.5, 0.5], module)) < 1e-6
    assert {m.module: m.rank for m in made.modules} == {"layers.0.q": 24, "layers.0.v": 16, "layers.0.o": 8}


def test_at_the_full_rank_nothing_is_discarded(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = run(pair, tmp_path / "out", [0.7, -0.4], wanted=Wanted(rank=24))
    assert made.discarded < 1e-12
    assert error(read_changes(made.folder)["layers.0.q"], dense(pair, [0.7, -0.4], "layers.0.q")) < 1e-6


@pytest.mark.parametrize("space", ["dense", "knots", "core"])
def test_a_lower_rank_is_the_best_approximation(space: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = run(pair, tmp_path / "out", [0.5, 0.5], wanted=Wanted(rank=8), space=space)
    expected = dense(pair, [0.5, 0.5], "layers.0.q")
    u, s, v = np.linalg.svd(expected)
    best = (u[:, :8] * s[:8]) @ v[:8]
    assert error(read_changes(made.folder)["layers.0.q"], best) < 1e-5
    module = next(m for m in made.modules if m.module == "layers.0.q")
    assert module.share == pytest.approx((s[:8] ** 2).sum() / (s**2).sum(), rel=1e-6)


def test_a_part_of_the_energy_decides_the_rank(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = run(pair, tmp_path / "out", [0.5, 0.5], wanted=Wanted(energy=0.9))
    squares = np.linalg.svd(dense(pair, [0.5, 0.5], "layers.0.q"), compute_uv=False) ** 2
    expected = int(np.searchsorted(np.cumsum(squares) / squares.sum(), 0.9)) + 1
    assert next(m.rank for m in made.modules if m.module == "layers.0.q") == expected
    assert 0 < made.discarded <= 0.1


@pytest.mark.parametrize("space", ["knots", "core"])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.3, -0.7, 2.0]])
def test_sums_are_the_same_in_every_space(space: str, weights: list[float], three: list[Path], tmp_path: Path) -> None:
    made = run(three, tmp_path / "out", weights, space=space)
    assert error(read_changes(made.folder)["layers.0.q"], dense(three, weights, "layers.0.q")) < 1e-6


@pytest.mark.parametrize("space", ["dense", "knots", "core"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [("ties", {"density": 0.4}), ("dare_linear", {"density": 0.5}), ("geometric_median", {}), ("linear", {}),
     ("breadcrumbs", {"density": 0.8, "gamma": 0.1}), ("sce", {}), ("magmax", {}), ("karcher", {}),
        ("tsv_m", {}),
        ("iso_c", {}),
        ("iso_cts", {}),
        ("cart", {}),
        ("wudi", {}),
        ("actmat", {})],
)  # fmt: skip
def test_methods_run_in_every_space(
    space: str, method: str, settings: dict[str, float], three: list[Path], tmp_path: Path
) -> None:
    made = run(three, tmp_path / "out", [0.5, 0.3, 0.2], method=method, space=space, settings=settings)
    found = read_changes(made.folder)["layers.0.q"]
    assert np.isfinite(found).all()
    assert np.linalg.norm(found) > 0


def test_iso_c_in_the_core_space_stays_within_the_adapters(three: list[Path], tmp_path: Path) -> None:
    """The published form gives the mean strength to directions that no adapter has, more than half of the energy."""
    made = run(three, tmp_path / "out", [1, 1, 1], method="iso_c")
    found, total = read_changes(made.folder)["layers.0.q"], dense(three, [1, 1, 1], "layers.0.q")
    assert next(m.rank for m in made.modules) == 28
    u, s, v = np.linalg.svd(total, full_matrices=False)
    assert energy_outside(s.mean() * u @ v, three) > 0.5
    assert energy_outside(found, three) < 1e-12
    strengths = np.linalg.svd(found, compute_uv=False)
    assert np.ptp(strengths[:28]) < 1e-5 * strengths[0]
    assert strengths[28] < 1e-6 * strengths[0]
    assert error(strengths[:28], np.full(28, s[:28].mean())) < 1e-5


def energy_outside(change: np.ndarray, folders: Sequence[Path]) -> float:
    """Return the part of a change's energy that is outside the column spaces of all adapters."""
    columns = np.concatenate([Factors.read(folder, "layers.0.q")[1] for folder in folders], axis=1)
    basis, _ = np.linalg.qr(columns)
    outside = change - basis @ (basis.T @ change)
    return float(np.square(outside).sum() / np.square(change).sum())


def test_a_method_in_the_dense_space_is_that_of_full_models(three: list[Path], tmp_path: Path) -> None:
    import cuvee

    made = run(three, tmp_path / "out", [1, 1, 1], method="ties", settings={"density": 0.4}, wanted=Wanted(rank=INTO),
               space="dense")  # fmt: skip
    changes = [read_changes(folder)["layers.0.q"].astype(np.float32) for folder in three]
    expected = cuvee.merge_tensors("ties", changes, base=np.zeros_like(changes[0]), weight=1.0, density=0.4)
    assert error(read_changes(made.folder)["layers.0.q"], expected) < 1e-5


def test_the_geometric_median_is_that_of_the_changes(three: list[Path], tmp_path: Path) -> None:
    import cuvee

    made = run(three, tmp_path / "out", [1, 1, 1], method="geometric_median")
    changes = [read_changes(folder)["layers.0.q"].astype(np.float32) for folder in three]
    expected = cuvee.merge_tensors("geometric_median", changes, base=np.zeros_like(changes[0]))
    assert error(read_changes(made.folder)["layers.0.q"], expected) < 1e-5


def test_the_kits_average_mixes_factors_and_says_so(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The second adapter's factors get eight zeros in front; both are averaged; the first one's scale holds."""
    folders = [
        write_adapter(tmp_path / name, {"q": rank}, seed=rank, shape=(OUT, INTO), alpha=alpha)
        for name, rank, alpha in (("a", 16, 32), ("b", 8, 8))
    ]
    made = run(folders, tmp_path / "out", [0.8, 0.2], method="legacy_lora_average")
    (a1, b1), (a2, b2) = (Factors.read(folder, "q") for folder in folders)
    a = 0.8 * a1 + 0.2 * np.concatenate([np.zeros((8, INTO)), a2])
    b = 0.8 * b1 + 0.2 * np.concatenate([np.zeros((OUT, 8)), b2], axis=1)
    assert error(read_changes(made.folder)["q"], 2.0 * b @ a) < 1e-6
    assert error(2.0 * b @ a, dense(folders, [0.8, 0.2], "q")) > 0.2


def test_lorahubs_product_needs_equal_ranks(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the ranks differ"):
        run(pair, tmp_path / "out", [0.5, 0.5], method="lorahub_product")


def test_adapters_of_different_shapes_are_refused(tmp_path: Path) -> None:
    folders = [write_adapter(tmp_path / str(n), {"q": 4}, seed=n, shape=(n, 8), alpha=4) for n in (16, 24)]
    with pytest.raises(CheckpointError, match=r"'q' has different shapes: \[16, 8\] in .*, \[24, 8\] in .*"):
        run(folders, tmp_path / "out", [1, 1])


@pytest.mark.parametrize("space", ["core", "knots", "dense"])
def test_directions_are_not_cut_where_a_projection_is_fused(space: str, tmp_path: Path) -> None:
    """The rows of the core space are no outputs, and nothing tells how many outputs of a plain adapter are queries."""
    found = []
    for module in ("layers.0.self_attn.qkv_proj", "layers.0.self_attn.o_proj"):
        folders = [
            write_adapter(tmp_path / module / str(seed), {module: 6}, seed=seed, shape=(OUT, INTO), alpha=6)
            for seed in (1, 2)
        ]
        made = run(folders, tmp_path / module / "out", [1, 1], method="iso_c", space=space, wanted=Wanted(rank=12))
        found.append(read_changes(made.folder)[module])
    assert error(found[0], found[1]) < 1e-5


def test_the_same_bytes_with_any_number_of_threads(three: list[Path], tmp_path: Path) -> None:
    adapters = [open_adapter(folder) for folder in three]
    digests = {combine(adapters, [1, 1, 1], tmp_path / str(t), How(), threads=t).digest for t in (1, 2, 3)}
    assert len(digests) == 1


def test_a_sum_that_needs_all_ranks_is_the_factors_side_by_side() -> None:
    generator = np.random.default_rng(0)
    products = [Product(generator.standard_normal((40, 3)), generator.standard_normal((3, 30))) for _ in range(4)]
    weights = [0.5, -2.0, 0.0, 1.0]
    kept = joined(products, weights)
    assert kept is not None
    assert kept.product.rank == 9  # nothing of the one with weight zero
    whole = sum(weight * p.left @ p.right for p, weight in zip(products, weights, strict=True))
    np.testing.assert_allclose(kept.product.left @ kept.product.right, whole, atol=1e-12)
    assert kept.energy == kept.total == pytest.approx(float(np.square(whole).sum()))


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.0, 0.0]])
def test_a_sum_of_fewer_ranks_is_left_to_the_algebra(weights: list[float]) -> None:
    product = Product(
        np.random.default_rng(0).standard_normal((8, 2)), np.random.default_rng(1).standard_normal((2, 9))
    )
    assert joined([product, product], weights) is None
