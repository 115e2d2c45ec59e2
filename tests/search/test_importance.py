"""Which dimensions mattered."""

from pathlib import Path

import pytest
import yaml

from cuvee.search.arms import Arms
from cuvee.search.importance import FEWEST, importance
from cuvee.search.journal import open_journal
from cuvee.search.race import Race
from cuvee.search.space import arms_of
from cuvee.search.split import blocks

from .surrogate import Surrogate, items, space


def green_alone(recipe: str) -> float:
    """Return a chance that depends on the weight of the second model, and on nothing else."""
    weights = [model.get("parameters", {}).get("weight", 1.0) for model in yaml.safe_load(recipe)["models"]]
    green = weights[1]
    return 0.9 - abs((sum(green) / len(green) if isinstance(green, list) else green) - 0.3)


@pytest.mark.parametrize("candidates", [2 * FEWEST, FEWEST // 2])
def test_the_number_that_decides_has_the_largest_share_where_there_are_enough(tmp_path: Path, candidates: int) -> None:
    written = space(
        search={"method": "task_arithmetic", "weights": {"over": "whole"}}, sampler="random", anchors=["defaults"]
    )
    journal = open_journal(tmp_path, {})
    weights = {"one": 1.0, "two": 1.0}
    race = Race(blocks(items(), block=20), weights, Arms(written, tmp_path), journal, racing=False)
    race.run(Surrogate(green_alone), lambda race: race.started / candidates)
    shares = importance(arms_of(written)[0], list(race.done.values()))
    if candidates < FEWEST:
        assert shares == {}
        return
    assert next(iter(shares)) == "weight.green..0"
    assert sum(shares.values()) == pytest.approx(1)
