"""Every kind of adapter besides LoRA: what PEFT computes at run time is what the written model computes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.conftest import load, logits, relative_error
from adapters.kinds_of_peft import INPUT_FIRST, VARIANTS, train
from adapters.test_adapted import merged
from cuvee.adapters import Adapted, open_adapter
from cuvee.adapters.catalogue import kinds
from cuvee.adapters.random_places import TOO_MANY, first_normals, first_of_permutation
from cuvee.adapters.refused import REFUSED
from cuvee.checkpoint import open_checkpoint, weights_digest
from cuvee.errors import CheckpointError

CASES = [
    *(("llama", kind, VARIANTS[kind][""]) for kind in ("IA3", "GLORA", "OFT")),
    *(("gpt2", kind, {**settings, "fan_in_fan_out": True}) for kind, settings in INPUT_FIRST.items()),
    ("tied", "TRAINABLE_TOKENS", VARIANTS["TRAINABLE_TOKENS"][""]),
]


@pytest.mark.parametrize(("base", "kind", "settings"), CASES)
def test_the_written_model_computes_what_peft_does(
    base: str, kind: str, settings: dict[str, object], bases: Callable[[str], Path], tmp_path: Path
) -> None:
    made = train(bases(base), tmp_path / "adapter", kind, settings)
    found = logits(load(merged(made, tmp_path / "out")))
    assert relative_error(logits(load(made.base)), made.logits) > 1e-3
    assert relative_error(found, made.logits) < 1e-5


def test_every_kind_of_peft_is_ours_or_refused() -> None:
    from peft import PeftType

    known = {"LORA", *kinds(), *REFUSED}
    assert known == {kind.value for kind in PeftType}
    assert set(VARIANTS) == set(kinds())
    assert not set(kinds()) & set(REFUSED)


@pytest.mark.parametrize("kind", ["OFT", "IA3"])
def test_the_same_bytes_in_any_chunks_and_threads(kind: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    made = train(bases("biased"), tmp_path / "adapter", kind, VARIANTS[kind][""])
    options = ({"chunk": 65_536}, {"threads": 3}, {})
    folders = [merged(made, tmp_path / str(i), **option) for i, option in enumerate(options)]
    assert len({weights_digest(folder) for folder in folders}) == 1


def test_parts_of_another_size_are_refused_before_reading(bases: Callable[[str], Path], tmp_path: Path) -> None:
    made = train(bases("biased"), tmp_path / "adapter", "LOHA", VARIANTS["LOHA"][""])
    with open_checkpoint(bases("gpt-oss")) as other, pytest.raises(CheckpointError, match=r"does not fit|has not"):
        Adapted(other, open_adapter(made.adapter))


def test_places_among_more_numbers_than_torch_draws_alike_are_refused() -> None:
    drawn_by_torch = [11440646, 199500216, 10121607, 3119241]  # torch.randperm of 2.13.0, 1.7 GB
    assert first_of_permutation(TOO_MANY - 1, 4, 777).tolist() == drawn_by_torch
    with pytest.raises(ValueError, match="torch does otherwise"):
        first_of_permutation(TOO_MANY, 4, 777)


@pytest.mark.parametrize(("size", "count", "seed"), [(37, 36, 5), (1000, 40, 777), (1 << 22, 20, 0)])
def test_places_are_those_that_torch_draws(size: int, count: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    drawn = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    assert first_of_permutation(size, count, seed).tolist() == drawn.tolist()


@pytest.mark.parametrize("size", [3, 4, 15, 16, 17, 20, 31, 32, 33, 256])
def test_normal_numbers_are_those_that_torch_draws(size: int) -> None:
    torch = pytest.importorskip("torch")
    drawn = torch.normal(mean=0.0, std=1.0, size=(size,), generator=torch.Generator().manual_seed(42))
    first = first_normals(size, 42)
    assert len(first) == min(size, 16)
    assert abs(first - drawn[: len(first)].numpy()).max() < 1e-5


@pytest.mark.parametrize(("kind", "complaint"), [("FROD", "has no 'frod_V' for"), ("TINYLORA", "does not fit")])
def test_what_only_a_library_could_draw_again_is_asked_for(
    kind: str, complaint: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    made = train(bases("biased"), tmp_path / "adapter", kind, {**VARIANTS[kind][""], "save_projection": False})
    with open_checkpoint(made.base) as base, pytest.raises(CheckpointError, match=complaint):
        Adapted(base, open_adapter(made.adapter))


def test_projections_of_another_seed_tell_no_module(bases: Callable[[str], Path], tmp_path: Path) -> None:
    made = train(bases("biased"), tmp_path / "adapter", "TINYLORA", VARIANTS["TINYLORA"][""])
    config = made.adapter / "adapter_config.json"
    config.write_text(config.read_text().replace('"projection_seed": 42', '"projection_seed": 4200'))
    with pytest.raises(CheckpointError, match="those of 0 modules by its seed of 4200"):
        merged(made, tmp_path / "out")
