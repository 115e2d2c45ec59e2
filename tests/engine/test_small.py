"""Small merges by the plain kernels: the bytes are those of the compiled ones, and nothing is compiled for them."""

from pathlib import Path

import pytest

import cuvee
from cuvee import kernels
from cuvee.engine import MergeResult
from cuvee.kernels import fused, small

SETTINGS = {
    "linear": "weight: 0.3",
    "task_arithmetic": "weight: 0.4",
    "multislerp": "weight: 0.5",
    "karcher": "",
    "model_stock": "",
    "nuslerp": "weight: 0.5",
    "ties": "weight: 1.0, density: 0.5",
    "breadcrumbs": "weight: 1.0, density: 0.5",
    "dare_ties": "weight: 1.0, density: 0.5",
    "della": "weight: 1.0, density: 0.5",
    "sce": "select_topk: 0.5",
    "arcee_fusion": "",
}
ENDPOINTS = ("nuslerp", "arcee_fusion")


def merged(family: Path, out: Path, method: str) -> MergeResult:
    experts = ("e1",) if method == "arcee_fusion" else ("e1", "e2")
    models = [family / "base", *(family / name for name in experts)][method == "nuslerp" :]
    text = f"merge_method: {method}\nparameters: {{{SETTINGS[method]}}}\n"
    text += "models:\n" + "".join(f"- model: {folder}\n" for folder in models)
    if method not in ("linear", "karcher", "multislerp"):
        text += f"base_model: {family / 'base'}\n"
    return cuvee.merge(cuvee.recipe_from_text(text), out)


@pytest.mark.parametrize("method", SETTINGS)
def test_plain_kernels_give_the_bytes_of_the_compiled_ones(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    compiled = merged(family, tmp_path / "compiled", method)
    monkeypatch.setattr(kernels, "SMALL", 1 << 22)
    monkeypatch.setattr(fused, "compiled", lambda: False)
    assert merged(family, tmp_path / "plain", method).digest == compiled.digest


def test_a_first_small_merge_waits_for_no_compiler(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("called a compiled kernel")

    monkeypatch.setattr(kernels, "SMALL", 1 << 22)
    monkeypatch.setattr(fused, "compiled", lambda: False)
    monkeypatch.setattr(fused, "call", refuse)
    assert merged(family, tmp_path / "out", "ties").figures.compile_seconds == 0


def test_large_merges_take_the_compiled_kernels(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("called a plain kernel")

    monkeypatch.setattr(kernels, "SMALL", 1000)
    monkeypatch.setattr(small, "combine", refuse)
    merged(family, tmp_path / "out", "linear")


def test_every_kernel_is_there() -> None:
    assert set(small.__all__) == {name for name in vars(kernels.Kernels) if not name.startswith("_")}
