"""Whose fault it is when transformers fails: the model's, or that of a library that nobody has tried."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cuvee
from cuvee import versions
from cuvee.errors import EvaluationError, PlatformError
from cuvee.evaluation import load_model
from cuvee.evaluation.library import blaming, check_library
from made_up_library import SOURCE, write_made_up_transformers


def evaluated_with(library: Path, model: Path) -> subprocess.CompletedProcess[str]:
    source = Path(cuvee.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{library}:{source}"}
    command = [sys.executable, "-m", "cuvee", "evaluate", str(model), "sort"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", [SOURCE, "raise RuntimeError('needs torch 3')"])
def test_a_version_that_nobody_has_tried_fails_as_ours(tmp_path: Path, model_folder: Path, source: str) -> None:
    ended = evaluated_with(write_made_up_transformers(tmp_path / "library", source), model_folder)
    lowest, highest = versions.tested_range("transformers") or ("", "")
    assert ended.returncode == 70
    assert f"transformers 5.99.0 is not known here; tested: {lowest} to {highest}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_installed_library_runs_a_sound_model() -> None:
    check_library()


def test_a_library_that_fails_on_a_sound_model_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise TypeError("forward takes a blueprint")

    monkeypatch.setattr("transformers.LlamaForCausalLM.forward", broken)
    with pytest.raises(PlatformError, match="forward takes a blueprint"):
        with blaming("a model", "run"):
            raise ValueError("what a model may raise")


def test_a_failure_with_a_sound_library_is_the_models() -> None:
    with pytest.raises(EvaluationError, match="transformers cannot run this model: ValueError: no such head"):
        with blaming("a model", "run"):
            raise ValueError("no such head")


def test_memory_that_runs_out_is_nobodys_fault() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        with blaming("a model", "run"):
            raise torch.OutOfMemoryError("too large")


def test_a_model_that_writes_no_text_is_refused_without_a_list_of_classes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(EvaluationError, match="'vit' is no model that transformers") as refused:
        load_model(tmp_path)
    assert len(str(refused.value)) < 400


def test_a_kind_that_transformers_does_not_know_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "imaginary"}')
    with pytest.raises(EvaluationError, match="imaginary") as refused:
        load_model(tmp_path)
    assert len(str(refused.value)) < 500
