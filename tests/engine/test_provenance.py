"""What cuvee.json records besides the recipe: hashes of the inputs, numbers that were measured."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint.hashes import sha256_of
from cuvee.engine import Part
from cuvee.errors import CheckpointError
from cuvee.testing import random_weights, write_model

RECIPE = "merge_method: task_arithmetic\nbase_model: base\nmodels: [{{model: a}}, {{model: b}}]\n{more}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = random_weights(0)
    write_model(tmp_path / "base", base, shard_bytes=50_000)
    for i, name in enumerate(("a", "b"), 1):
        write_model(tmp_path / name, random_weights(i, base=base, change=0.01 * i))
    return tmp_path


def recipe(folder: Path, more: str) -> cuvee.Recipe:
    return cuvee.recipe_from_text(RECIPE.format(more=more), folder=folder)


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "cuvee.json").read_text())
    return found


def hashes(out: Path) -> dict[str, str | None]:
    inputs = record(out)["inputs"]
    return {f"{given['model']}/{name}": known["sha256"] for given in inputs for name, known in given["files"].items()}


def expected(folder: Path) -> dict[str, str]:
    files = sorted(file for name in ("base", "a", "b") for file in (folder / name).glob("*.safetensors"))
    return {f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_inputs_are_hashed_when_asked_for(folder: Path) -> None:
    wanted = recipe(folder, "parameters: {weight: 1}")
    plain = cuvee.merge(wanted, folder / "plain")
    hashed = cuvee.merge(wanted, folder / "hashed", hash_inputs=True, threads=2)
    assert hashes(hashed.folder) == expected(folder)
    assert len(expected(folder)) > 3
    assert set(hashes(plain.folder).values()) == {None}
    assert plain.digest == hashed.digest


def test_parts_that_are_joined_have_the_hashes_of_the_first(folder: Path) -> None:
    wanted = recipe(folder, "parameters: {weight: 1}")
    for number in (2, 1):
        cuvee.merge_part(wanted, folder / "out", Part(number, 2), shard_bytes=60_000, hash_inputs=True)
    assert hashes(cuvee.join(folder / "out").folder) == expected(folder)


def test_a_file_that_is_gone_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read the file"):
        sha256_of([tmp_path / "gone"])


def test_measured_weights_are_recorded(folder: Path) -> None:
    out = cuvee.merge(recipe(folder, "weights: metagpt"), folder / "out").folder
    squares = []
    for name in ("a", "b"):
        total = cuvee.compare([folder / "base", folder / name]).total
        squares.append(total.models[0].norm ** 2)
    weights = record(out)["measured"]["weights"]
    assert [given["model"] for given in weights] == ["a", "b"]
    assert [given["weight"] for given in weights] == pytest.approx(np.array(squares) / sum(squares), rel=1e-6)


def test_measured_factors_of_modifiers_are_recorded(folder: Path) -> None:
    wanted = recipe(folder, "post: [norm_match]\nparameters: {weight: 1, lambda: 0.5}")
    out = cuvee.merge(wanted, folder / "out").folder
    factors = record(out)["measured"]["factors"]
    norms = {t.name: t.figures for t in cuvee.compare([folder / name for name in ("base", "a", "b", "out")]).tensors}
    assert set(factors) == set(norms)
    for name, figures in norms.items():
        a, b, merged = (model.norm for model in figures.models)
        assert merged == pytest.approx(0.5 * (a + b) / 2, rel=1e-4)
        summed = (a**2 + b**2 + 2 * a * b * figures.pairs[0].cosine) ** 0.5
        assert factors[name] == pytest.approx((a + b) / 2 / summed, rel=1e-4)


def test_without_a_measurement_none_is_recorded(folder: Path) -> None:
    wanted = recipe(folder, "weights: uniform\npost: [{lines: {alpha: 0.5}}]")
    assert "measured" not in record(cuvee.merge(wanted, folder / "out").folder)


def test_a_merge_stopped_at_its_end_measures_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe(folder, "weights: metagpt")
    with monkeypatch.context() as patched:
        patched.setattr("cuvee.engine.run.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            cuvee.merge(wanted, folder / "out")
    again = cuvee.merge(wanted, folder / "out").folder
    assert record(again)["measured"] == record(cuvee.merge(wanted, folder / "whole").folder)["measured"]


def stop(*_: object) -> str:
    raise KeyboardInterrupt
