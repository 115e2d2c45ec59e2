"""Computed as loaded, a method rounds where its definition does on arrays of 16 bits, which parity tests hold to
mergekit's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import yaml

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.engine.arrays import merge_by_definition
from cuvee.testing import random_weights, write_model

BRAIN = np.dtype(ml_dtypes.bfloat16)
MODELS = ("a", "b", "c")

SETTINGS: list[tuple[str, Mapping[str, Any]]] = [
    ("task_arithmetic", {"weight": 0.7, "normalize": True, "lambda": 0.3}),
    ("task_arithmetic", {"weight": 0.7, "lambda": 0.3}),
    ("ties", {"weight": 0.7, "density": 0.4, "rescale": True, "lambda": 0.3}),
    ("dare_linear", {"weight": 0.7, "density": 1.0, "normalize": True}),
    ("breadcrumbs_ties", {"weight": 0.7, "density": 0.4, "gamma": 0.1, "rescale": True}),
    ("sce", {"select_topk": 0.3}),
    ("model_stock", {}),
    ("model_stock", {"lambda": 0.3}),
    ("model_stock", {"filter_wise": True}),
    ("multislerp", {"weight": 0.7}),
    ("ram", {"lambda": 0.3}),
    ("ramplus_tl", {"epsilon": 0.02, "r": 0.3, "alpha": 0.7}),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, base = tmp_path_factory.mktemp("models"), random_weights(0)
    write_model(root / "base", base, dtype="BF16")
    for seed, name in enumerate(MODELS, 1):
        write_model(root / name, random_weights(seed, base=base), dtype="BF16")
    return root


@pytest.mark.parametrize(("method", "settings"), SETTINGS)
def test_every_step_is_rounded_to_the_models_type(
    method: str, settings: Mapping[str, Any], folders: Path, tmp_path: Path
) -> None:
    models = [{"model": str(folders / name)} for name in MODELS]
    document = {"merge_method": method, "base_model": str(folders / "base"), "models": models}
    document |= {"parameters": dict(settings), "compute_dtype": "as_loaded"}
    plan = cuvee.make_plan(cuvee.recipe_from_text(yaml.safe_dump(document)))
    merged = open_checkpoint(cuvee.run_plan(plan, tmp_path / "merged").folder)
    opened = [open_checkpoint(folders / name) for name in ("base", *MODELS)]
    for step in plan.steps:
        base, *given = (model.read(step.name) for model in opened)
        expected = merge_by_definition(method, np.stack(given), base=base, **settings)
        assert merged.read(step.name).dtype == given[0].dtype == BRAIN
        np.testing.assert_array_equal(
            merged.read(step.name).astype(np.float32), expected.astype(BRAIN).astype(np.float32), err_msg=step.name
        )


def test_lambda_itself_is_not_rounded() -> None:
    delta, factor = np.full((1, 1), 3.0, BRAIN), 1.0039  # rounded to bfloat16 it is 1
    merged = merge_by_definition("task_arithmetic", delta, base=np.zeros(1, BRAIN), weight=1.0, lambda_=factor)
    assert float(merged[0]) == float(np.float32(3 * factor).astype(BRAIN)) == 3.015625
