"""Merges on another device, with torch's own main processor in its place: the same numbers as by kernels."""

from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.device import device_called
from cuvee.engine.run import run_plan
from cuvee.errors import RecipeError
from cuvee.plan import Plan, make_plan
from cuvee.plan.matrices import on_device
from plain_methods import PLAIN

from .test_run import recipe

pytest.importorskip("torch")

METHODS = ["linear", "slerp", "nuslerp", "task_arithmetic", "ties", "dare_ties", "della", "sce", "model_stock", "cabs"]
METHODS += [method.key for method in PLAIN.values() if method.kind == "matrix"]


def plan_of(family: Path, method: str, extra: str = "") -> Plan:
    return make_plan(cuvee.recipe_from_text(recipe(family, method, extra)))


def numbers(folder: Path) -> dict[str, np.ndarray]:
    written = open_checkpoint(folder)
    return {name: written.read(name).astype(np.float32) for name in written.tensors}


@pytest.mark.parametrize("method", METHODS)
def test_a_device_gives_what_the_kernels_give(family: Path, tmp_path: Path, method: str) -> None:
    plan = plan_of(family, method, "out_dtype: float32\n")
    here = run_plan(plan, tmp_path / "here")
    there = run_plan(on_device(plan, "torch"), tmp_path / "there", threads=2)
    expected = numbers(here.folder)
    for name, array in numbers(there.folder).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5 * np.abs(expected[name]).max())


def test_modifiers_come_after_the_method_there_too(family: Path, tmp_path: Path) -> None:
    plan = plan_of(family, "ties", "out_dtype: float32\npost: [svc, norm_match]\n")
    expected = numbers(run_plan(plan, tmp_path / "here").folder)
    for name, array in numbers(run_plan(on_device(plan, "torch"), tmp_path / "there").folder).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5)


def test_another_device_is_another_plan_within_a_tolerance(family: Path) -> None:
    plan = plan_of(family, "ties")
    there = on_device(plan, "torch")
    assert there.digest != plan.digest
    assert (plan.reproducible, there.reproducible) == ("bits", "tolerance")
    assert on_device(plan, "cpu") is plan


def test_what_only_the_main_processor_does_is_refused(family: Path) -> None:
    with pytest.raises(RecipeError, match="counts over the whole model"):
        on_device(plan_of(family, "localize_stitch"), "torch")
    with pytest.raises(RecipeError, match="as_loaded"):
        on_device(plan_of(family, "ties", "compute_dtype: as_loaded\n"), "torch")


def test_auto_is_the_main_processor_without_a_gpu() -> None:
    import torch

    assert device_called("cpu", useful=True) == "cpu"
    assert device_called("auto", useful=False) == "cpu"
    if not torch.cuda.is_available():
        assert device_called("auto", useful=True) == "cpu"
        with pytest.raises(RecipeError, match="no CUDA device"):
            device_called("cuda", useful=False)
    with pytest.raises(RecipeError, match="'--device' is one of"):
        device_called("tpu", useful=True)
