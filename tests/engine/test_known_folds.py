"""What surveys of whole models found is known to the next merge of the same models, and to no other."""

import os
import shutil
from pathlib import Path

import pytest

import cuvee
from cuvee.engine.run import run_plan
from cuvee.plan import make_plan

RECIPES = {
    "a threshold of the whole model": "semantics: paper\nparameters: {{weight: 1, density: {0}}}\n",
    "weights by the norms": "weights: metagpt\n",
}


def text(family: Path, kind: str, density: float = 0.4, scale: float = 1.0) -> str:
    method = "ties" if "threshold" in kind else "task_arithmetic"
    models = "".join(f"  - model: {family}/{name}\n" for name in ("e1", "e2"))
    rest = RECIPES[kind].format(density).replace("parameters: {", f"parameters: {{lambda: {scale}, ")
    return f"merge_method: {method}\nbase_model: {family}/base\nmodels:\n{models}{rest}"


@pytest.fixture
def own(family: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(family, tmp_path / "family"))


def merge(recipe: str, out: Path) -> cuvee.MergeResult:
    return run_plan(make_plan(cuvee.recipe_from_text(recipe)), out, cache=out.parent / "cache")


@pytest.mark.parametrize("kind", RECIPES)
def test_the_second_merge_reads_less_and_writes_the_same(own: Path, tmp_path: Path, kind: str) -> None:
    first, second = (merge(text(own, kind), tmp_path / out) for out in ("first", "second"))
    assert second.figures.bytes_read < first.figures.bytes_read
    assert second.digest == first.digest


def test_another_lambda_asks_nothing_new(own: Path, tmp_path: Path) -> None:
    kind = "a threshold of the whole model"
    first = merge(text(own, kind), tmp_path / "first")
    second = merge(text(own, kind, scale=0.5), tmp_path / "second")
    assert second.figures.bytes_read < first.figures.bytes_read
    assert (
        second.digest == run_plan(make_plan(cuvee.recipe_from_text(text(own, kind, scale=0.5))), tmp_path / "3").digest
    )


@pytest.mark.parametrize("kind", RECIPES)
def test_a_changed_model_is_read_again(own: Path, tmp_path: Path, kind: str) -> None:
    first = merge(text(own, kind), tmp_path / "first")
    (file,) = (own / "e1").glob("*.safetensors")
    os.utime(file, ns=(1, 1))
    second = merge(text(own, kind), tmp_path / "second")
    assert second.figures.bytes_read == first.figures.bytes_read


def test_another_setting_is_another_question(own: Path, tmp_path: Path) -> None:
    kind = "a threshold of the whole model"
    first = merge(text(own, kind), tmp_path / "first")
    second = merge(text(own, kind, density=0.3), tmp_path / "second")
    assert second.figures.bytes_read == first.figures.bytes_read
    assert second.digest != first.digest


def test_a_broken_file_is_found_out_and_replaced(own: Path, tmp_path: Path) -> None:
    kind = "weights by the norms"
    first = merge(text(own, kind), tmp_path / "first")
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-3])
    second, third = (merge(text(own, kind), tmp_path / out) for out in ("second", "third"))
    assert second.figures.bytes_read == first.figures.bytes_read > third.figures.bytes_read
    assert first.digest == second.digest == third.digest
