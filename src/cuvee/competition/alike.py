"""Near copies: submissions of different teams that are alike without being equal, for the organiser to look at.

recipe          the same recipe but for its numbers, its seed and the names of models; numbers differ by at most
                NEAR_NUMBERS
weights         task vectors that point the same way, by the cosine of their sketches
wrong answers   the best submissions of two teams agree on wrong answers more than chance lets them

Each is a reason to look, and no proof: two honest teams may have the same idea, or the guide's example. Nothing follows
from it by itself. Parents and baselines are no teams here; their answers help to tell how common a wrong one is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.agreement import agreements
from cuvee.competition.coincidence import Coincidences
from cuvee.competition.known_models import KnownModels
from cuvee.competition.recipe_shape import Shape, largest_gap, shape_of
from cuvee.competition.tables import likenesses, public_results, submissions, teams

NEAR_NUMBERS = 0.01
NEAR_COSINE = 0.999
LEVEL = 0.01
"""The chance of one false pair or more among all pairs of teams, where the assumptions of `agreement` hold."""

MOST_SHOWN = 100
"""Of each kind, the nearest ones."""

MOST_OF_A_SHAPE = 1000
"""Submissions of one shape that are compared by their numbers; the newest ones."""

ROWS_AT_ONCE = 500

What = Literal["recipe", "weights", "wrong answers"]


@dataclass(frozen=True)
class Alike:
    """Two submissions of different teams, the older one first, how near they are in words, and by a number.

    `measure` is the largest relative difference of two numbers, the cosine, or the p-value. `p` is the chance, over all
    pairs of teams, that one comes so near on its own; None for weights, whose nearness has no such chance.
    """

    what: What
    submissions: tuple[int, int]
    teams: tuple[int, int]
    team_names: tuple[str, str]
    measure: float
    text: str
    p: float | None = None


def alike(connection: Connection) -> list[Alike]:
    """Find near copies among the submissions that have a result, the nearest of each kind first."""
    return alike_among(connection.execute(_results()).all())


def alike_among(rows: Sequence[Any]) -> list[Alike]:
    """Find near copies among rows of submissions, with their teams, recipes, scores and likenesses."""
    theirs = [row for row in rows if row.kind == "participant"]
    return [
        *sorted(_alike_recipes(theirs), key=lambda pair: pair.measure)[:MOST_SHOWN],
        *sorted(_alike_weights(theirs), key=lambda pair: -pair.measure)[:MOST_SHOWN],
        *_alike_answers(rows)[:MOST_SHOWN],
    ]


def _results() -> sa.Select[Any]:
    return (
        sa.select(
            submissions.c.id,
            submissions.c.team_id,
            submissions.c.recipe,
            teams.c.name,
            teams.c.kind,
            public_results.c.value,
            likenesses.c.content,
        )
        .join(teams, teams.c.id == submissions.c.team_id)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(likenesses, likenesses.c.submission_id == submissions.c.id, isouter=True)
        .order_by(submissions.c.id)
    )


def _alike_recipes(rows: Sequence[Row[Any]]) -> Iterator[Alike]:
    by_shape: dict[str, list[tuple[Row[Any], Shape]]] = {}
    by_team: dict[int, list[Shape]] = {}
    known = KnownModels()
    for row in rows:
        shape = shape_of(row.recipe, known.names(row.content))
        if shape is not None:
            by_shape.setdefault(shape.text, []).append((row, shape))
            by_team.setdefault(row.team_id, []).append(shape)
    coincidences = Coincidences(list(by_team.values()))
    for same in by_shape.values():
        for (one, first), (other, second) in combinations(same[-MOST_OF_A_SHAPE:], 2):
            gap = largest_gap(first.numbers, second.numbers) if one.team_id != other.team_id else None
            if gap is not None and gap <= NEAR_NUMBERS:
                text = f"the same recipe; numbers differ by at most {100 * gap:.2f} %"
                if not gap:
                    text = "the same recipe with the same numbers"
                yield replace(_pair("recipe", one, other, gap, text), p=coincidences.chance(first, second))


def _alike_weights(rows: Sequence[Row[Any]]) -> Iterator[Alike]:
    by_layout: dict[str, list[Row[Any]]] = {}
    for row in rows:
        if row.content is not None and row.content["sketch"]:
            by_layout.setdefault(row.content["layout"], []).append(row)
    for same in by_layout.values():
        sketches = np.array([row.content["sketch"] for row in same])
        sketches /= np.linalg.norm(sketches, axis=1, keepdims=True)
        of_teams = np.array([row.team_id for row in same])
        for start in range(0, len(same), ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            cosines = sketches[block] @ sketches.T
            near = (cosines > NEAR_COSINE) & (of_teams[block, None] != of_teams[None, :])
            for first, second in np.argwhere(near):
                if start + first < second:
                    cosine = min(1.0, float(cosines[first, second]))
                    text = f"task vectors have a cosine of about {cosine:.5f}"
                    yield _pair("weights", same[start + first], same[second], cosine, text)


def _alike_answers(rows: Sequence[Row[Any]]) -> list[Alike]:
    """Compare the best submission of each team with the others', among those that answered the newest one's items."""
    best: dict[int, Row[Any]] = {}
    for row in rows:
        if row.content is None or not row.content["wrong"]:
            continue
        if row.team_id not in best or row.value > best[row.team_id].value:
            best[row.team_id] = row
    if not best:
        return []
    newest = _counts(max(best.values(), key=lambda row: row.id))
    comparable = [row for row in best.values() if _counts(row) == newest]
    participants = [place for place, row in enumerate(comparable) if row.kind == "participant"]
    pairs = []
    for pair in agreements([row.content["wrong"] for row in comparable], participants, level=LEVEL):
        text = (
            f"both are wrong on {pair.joint} items and give the same wrong answer to {pair.agreed}, "
            f"where {pair.expected:.0f} are expected"
        )
        found = _pair("wrong answers", comparable[pair.first], comparable[pair.second], pair.p, text)
        pairs.append(replace(found, p=pair.p))
    return pairs


def _counts(row: Row[Any]) -> dict[str, int]:
    return {task: len(keys) for task, keys in row.content["wrong"].items()}


def _pair(what: What, one: Row[Any], other: Row[Any], measure: float, text: str) -> Alike:
    first, second = sorted((one, other), key=lambda row: row.id)
    return Alike(what, (first.id, second.id), (first.team_id, second.team_id), (first.name, second.name), measure, text)
