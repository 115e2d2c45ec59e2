"""Any family merges in the file's own name space, and what is written loads whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cuvee  # noqa: E402  # after the skip
from cuvee.checkpoint import open_checkpoint  # noqa: E402
from cuvee.structure import infer  # noqa: E402

from .zoo import FAMILIES  # noqa: E402

Triple = Callable[[str], list[Path]]


def merged(folders: list[Path], out: Path) -> Path:
    models = ", ".join(f"{{model: {folder}}}" for folder in folders)
    cuvee.merge(cuvee.recipe_from_text(f"merge_method: linear\nmodels: [{models}]\nparameters: {{weight: 1}}\n"), out)
    return out


def loaded(folder: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    return type(like).from_pretrained(folder, output_loading_info=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_three_models_of_a_family_give_their_average_complete_and_loadable(
    family: str, triple: Triple, tmp_path: Path
) -> None:
    folders = triple(family)
    like = FAMILIES[family]()
    result, told = loaded(merged(folders, tmp_path / "out"), like)
    assert not any(told.values()), told
    parents = [dict(loaded(folder, like)[0].named_parameters()) for folder in folders]
    assert result.num_parameters() == like.num_parameters()
    for name, parameter in result.named_parameters():
        average = (parents[0][name] + parents[1][name] + parents[2][name]) / 3
        assert torch.allclose(parameter, average, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_structure_of_a_family_is_inferred(family: str, triple: Triple) -> None:
    checkpoint = open_checkpoint(triple(family)[0])
    structure = infer(checkpoint)
    assert set(structure.tensors) == set(checkpoint.tensors)
    assert {stack.depth for stack in structure.stacks} == {2}
    assert {place.layer for place in structure if place.stack} <= {0, 1, 2}
    for place in structure:
        shape = checkpoint.tensors[place.name].shape
        assert place.role not in ("linear", "router", "head") or len(shape) >= 2, place
        if place.fused is not None and place.fused.sizes is not None:
            assert sum(place.fused.sizes) == (shape[-1] if place.input_first else shape[-2:][0]), place
