"""Predictions on the bundled family do not depend on the batch size."""

import pytest

from cuvee import demo
from cuvee.evaluation import evaluate, load_model
from cuvee.evaluation.model import LanguageModel


@pytest.fixture(scope="module", params=["base", "odd"])
def member(request: pytest.FixtureRequest) -> LanguageModel:
    return load_model(demo.model_folder(request.param), device="cpu")


@pytest.mark.parametrize("task", ["odd", "sort"])
def test_predictions_do_not_depend_on_the_batch_size(member: LanguageModel, task: str) -> None:
    found = [evaluate(member, [task], batch_size=size, limit=24).tasks[0].items for size in (1, 3, 16)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 24


def test_a_model_spread_by_accelerate_answers_the_same(member: LanguageModel) -> None:
    pytest.importorskip("accelerate")
    spread = load_model(member.name, device="split")
    found = [evaluate(model, ["odd"], limit=8).tasks[0].items for model in (member, spread)]
    assert found[0] == found[1]
