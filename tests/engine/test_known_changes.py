"""Changes that matrix methods made before: taken again for another lambda, computed anew for anything else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.catalogue import registry
from cuvee.engine.known_changes import KnownChanges
from cuvee.engine.options import Options
from cuvee.engine.workers import Workers
from cuvee.plan import make_plan
from cuvee.testing import random_weights, write_model

from .conftest import CONFIG, EXPERTS

MATRICES = sorted(key for key, method in registry().items() if method.kind == "matrix" and not method.inputs)


class Counted(KnownChanges):
    """Known changes that count how many were computed."""

    computed = 0

    def get(self, name: str, question: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        def counted() -> np.ndarray:
            self.computed += 1
            return compute()

        return super().get(name, question, counted)


def digests(family: Path, method: str, changes: KnownChanges | None, more: str = "", **settings: object) -> list[str]:
    models = "".join(f"- {{model: {family}/{name}}}\n" for name in EXPERTS)
    text = f"merge_method: {method}\nbase_model: {family}/base\nmodels:\n{models}parameters: {settings or '{}'}\n{more}"
    workers = Workers(make_plan(cuvee.recipe_from_text(text)), Options(), changes=changes)
    finished = workers.run_all(lambda name, start, data: None)
    return [finished[step.name].digest for step in workers.steps]


@pytest.mark.parametrize("method", MATRICES)
def test_another_lambda_asks_for_nothing_new_and_changes_no_byte(family: Path, method: str) -> None:
    changes = Counted()
    digests(family, method, changes, **{"lambda": 0.5})
    first = changes.computed
    again = digests(family, method, changes, **{"lambda": 0.9})
    assert changes.computed == first > 0
    assert again == digests(family, method, None, **{"lambda": 0.9})
    assert again != digests(family, method, changes, **{"lambda": 0.5})


@pytest.mark.parametrize(
    "more", ["compute_dtype: as_loaded\n", "compute_dtype: as_loaded\ndtype: float16\n", "post: [svc]\n"]
)
def test_what_decides_the_change_is_asked_anew(family: Path, more: str) -> None:
    changes = Counted()
    digests(family, "tsv_m", changes)
    first = changes.computed
    assert digests(family, "tsv_m", changes, more) == digests(family, "tsv_m", None, more)
    assert changes.computed == 2 * first


def test_other_settings_and_models_are_asked_anew(family: Path, tmp_path: Path) -> None:
    changes = Counted()
    digests(family, "tsv_m", changes)
    first = changes.computed
    assert digests(family, "tsv_m", changes, weight=2) == digests(family, "tsv_m", None, weight=2)
    assert changes.computed == 2 * first
    random = random_weights(7, base=random_weights(0, config=CONFIG), config=CONFIG)
    for name in ("base", *EXPERTS):
        write_model(tmp_path / name, random, config=CONFIG, dtype="BF16")
        random = random_weights(len(name), base=random, config=CONFIG)
    assert digests(tmp_path, "tsv_m", changes) == digests(tmp_path, "tsv_m", None)
    assert changes.computed == 3 * first


def test_the_changes_of_two_settings_stay_in_memory(family: Path) -> None:
    changes = KnownChanges()
    sizes = []
    for share in (0.2, 0.3, 0.4, 0.5):
        digests(family, "tsv_m", changes, weight=share)
        sizes.append(changes.nbytes)
    assert sizes[1] == sizes[2] == sizes[3] == 2 * sizes[0]
