"""The Ladder (Blum and Hardt 2015, arXiv:1502.04585): a team learns a new public score only where it is better than its
best so far by more than the noise.

The form without a parameter: the noise is the standard error of the paired difference of the two. What is not released
says nothing, so asking many times about nothing gains nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.comparisons import all_differences
from cuvee.competition.tables import public_results, submissions
from cuvee.submission.competition import Competition

Items = Mapping[str, Sequence[float]]


def is_released(
    connection: Connection, submission_id: int, phase_name: str, value: float, items: Items, competition: Competition
) -> bool:
    """Tell whether a team may see this score of one of its submissions, by the feedback of its phase."""
    phase = competition.phase_named(phase_name)
    feedback = "scores" if phase is None else phase.feedback
    if feedback != "ladder":
        return feedback == "scores"
    best = _best_released(connection, submission_id, phase_name)
    weights = {task.name: task.weight for task in competition.tasks}
    return best is None or better_than_noise(items, best, weights)


def better_than_noise(items: Items, best: Items, weights: Mapping[str, float]) -> bool:
    """Tell whether the first is better than the second by more than one standard error of their difference."""
    if any(len(items.get(task, ())) != len(best.get(task, ())) for task in weights):
        return True  # the tasks have changed since: nothing to compare with
    differences = all_differences([items, best], weights)
    return float(differences.value[0, 1]) > max(float(differences.standard_error[0, 1]), 0.0)


def _best_released(connection: Connection, submission_id: int, phase: str) -> Any | None:
    team = sa.select(submissions.c.team_id).where(submissions.c.id == submission_id).scalar_subquery()
    return connection.execute(
        sa.select(public_results.c.item_scores)
        .join(submissions, submissions.c.id == public_results.c.submission_id)
        .where(submissions.c.team_id == team, submissions.c.phase == phase, public_results.c.released)
        .order_by(public_results.c.value.desc())
        .limit(1)
    ).scalar()
