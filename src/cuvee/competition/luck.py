"""How far luck alone lifts the best of many tries: the more entries a team has, the more its best owes to chance.

The figure is of a team whose entries are all equally good. The noise of their scores is normal, with the variances and
correlations that the answers to the items show; half an item for each answer counts as seen, as on the board.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.comparisons import Items, Numbers
from cuvee.competition.shown import is_shown
from cuvee.competition.tables import public_results, submissions, teams
from cuvee.evaluation.resample import UNSEEN

DRAWS = 2000
QUANTILE = 0.95
MOST_ENTRIES = 200
SEED = 20240913


@dataclass(frozen=True)
class Luck:
    """With so many tries the best of equally good entries stands by `expected` too high on average, and in 95 % of
    teams by no more than `at_most`. Both are fractions."""

    tries: int
    expected: float
    at_most: float


def luck_of_team(connection: Connection, team_id: int, phase: str, weights: Mapping[str, float]) -> Luck | None:
    """Compute the luck of a team's newest entries of a phase whose scores are shown, if they have the same items."""
    scores = (
        sa.select(public_results.c.item_scores)
        .join(submissions, submissions.c.id == public_results.c.submission_id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(submissions.c.team_id == team_id, submissions.c.phase == phase, public_results.c.released, is_shown())
        .order_by(submissions.c.id.desc())
        .limit(MOST_ENTRIES)
    )
    entries = [found for found in connection.execute(scores).scalars() if weights.keys() <= found.keys()]
    same = [entry for entry in entries if _counts(entry, weights) == _counts(entries[0], weights)]
    return luck_of(same, weights)


def _counts(entry: Items, tasks: Iterable[str]) -> list[int]:
    return [len(entry[task]) for task in tasks]


def luck_of(entries: Sequence[Items], weights: Mapping[str, float]) -> Luck | None:
    """Compute the luck of a team's entries, which must have the same items; None with fewer than two."""
    if len(entries) < 2:
        return None
    total = sum(weights.values())
    covariance = np.zeros((len(entries), len(entries)))
    for task, weight in weights.items():
        scores = np.array([entry[task] for entry in entries], dtype=np.float64, ndmin=2)
        covariance += (weight / total) ** 2 * _of_means(scores)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    noise = np.random.default_rng(SEED).normal(size=(DRAWS, len(entries))) @ root.T
    best = noise.max(axis=1)
    return Luck(len(entries), float(best.mean()), float(np.quantile(best, QUANTILE)))


def _of_means(
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the covariance of the entries' means over the items of a task, each entry with an item seen right and an
    item seen wrong at half their weight, so that no entry is without doubt."""
    count = scores.shape[1] + 2 * UNSEEN
    centre = (scores.sum(axis=1) + UNSEEN) / count
    deviations = scores - centre[:, None]
    ends = np.outer(1 - centre, 1 - centre) + np.outer(centre, centre)
    covariance: Numbers = (deviations @ deviations.T + UNSEEN * ends) / (count * (count + 1))
    return covariance
