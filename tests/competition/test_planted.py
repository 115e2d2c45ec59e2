"""Planted copies of real recipes are found with little doubt, and forty honest teams raise hardly an alarm.

The recipes were merged and asked as the judge does it, by `forty.py`; here their likenesses are compared.
"""

import gzip
import json
from types import SimpleNamespace
from typing import Any

import pytest

from competition.forty import GOLDEN, honest_recipes, planted
from cuvee.competition.alike import Alike, alike_among
from cuvee.competition.coincidence import Coincidences
from cuvee.competition.known_models import KnownModels
from cuvee.competition.recipe_shape import shape_of

MOST_ALARMS = 2
SURE = 1e-3


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    assert {name: own["recipe"] for name, own in found["honest"].items()} == dict(honest_recipes())
    assert {name: own["recipe"] for name, own in found["planted"].items()} == {n: text for n, _, text in planted()}
    return found


def row(number: int, name: str, own: dict[str, Any]) -> SimpleNamespace:
    content = {key: own[key] for key in ("layout", "sketch", "wrong", "models")}
    return SimpleNamespace(
        id=number, team_id=number, name=name, kind="participant", recipe=own["recipe"], value=own["value"],
        content=content,
    )  # fmt: skip


def alarms(found: list[Alike]) -> list[Alike]:
    """What an organiser has to look at: near weights, and all that two teams hardly come to on their own."""
    return [pair for pair in found if pair.p is None or pair.p < SURE]


def test_forty_honest_recipes_of_one_family_raise_at_most_two_alarms(made: dict[str, dict[str, Any]]) -> None:
    rows = [row(number, name, own) for number, (name, own) in enumerate(made["honest"].items())]
    assert len(rows) == 40
    raised = alarms(alike_among(rows))
    assert len(raised) <= MOST_ALARMS, raised
    assert {pair.what for pair in raised} <= {"weights"}


@pytest.mark.parametrize("what", ["weights", "renamed", "order", "swapped"])
def test_a_planted_copy_is_found(made: dict[str, dict[str, Any]], what: str) -> None:
    """Weights changed by 0.0001; models renamed; another order; an expert swapped for a near-copy and another seed."""
    honest = [row(number, name, own) for number, (name, own) in enumerate(made["honest"].items())]
    names = list(made["honest"])
    for copy in range(4):
        own = made["planted"][f"{what} {copy}"]
        found = alarms(alike_among([*honest, row(40, "copier", own)]))
        pair = (names.index(own["of"]), 40)
        sure = [one for one in found if one.submissions == pair and one.what == "recipe"]
        assert len(sure) == 1, (what, copy)
        assert sure[0].p is not None
        assert sure[0].p < SURE


def test_what_everybody_chooses_is_no_evidence() -> None:
    """The guide's example, sent by three of twenty teams, is a coincidence; a weight that nobody else has is none."""
    keys = ("weight", "density", "lambda", "epsilon")
    chosen = [(1.0, 0.5, 1.0, 0.1)] * 3 + [(0.371, 0.613, 0.87, 0.213)] * 2
    chosen += [(0.3 + n / 20, 0.2 + n / 40, 0.6 + n / 30, 0.02 + n / 99) for n in range(17)]
    recipes = [", ".join(f"{key}: {value:.3f}" for key, value in zip(keys, own, strict=True)) for own in chosen]
    shapes = [shape_of(f"merge_method: della\nparameters: {{{own}}}\n") for own in recipes]
    known = [shape for shape in shapes if shape is not None]
    coincidences = Coincidences([[shape] for shape in known])
    assert coincidences.chance(known[0], known[1]) > 3 * coincidences.chance(known[3], known[4])


def test_a_model_is_known_by_its_sketch_whatever_it_is_called(made: dict[str, dict[str, Any]]) -> None:
    renamed = made["planted"]["renamed 0"]["models"]
    near = made["planted"]["swapped 0"]["models"]
    plain = made["honest"][made["planted"]["renamed 0"]["of"]]["models"]
    known = KnownModels()
    usual = known.names({"layout": "l", "models": plain})
    assert len(set(usual.values())) == len(plain)
    assert {*known.names({"layout": "l", "models": renamed}).values()} == {*usual.values()}
    assert {*known.names({"layout": "l", "models": near}).values()} == {*usual.values()}
