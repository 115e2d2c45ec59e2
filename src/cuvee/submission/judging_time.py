"""How long judging takes at most, by the budget and the quotas of a competition."""

from dataclasses import dataclass

from cuvee.submission.competition import Competition

DAY_SECONDS = 86400


@dataclass(frozen=True)
class JudgingTime:
    """Bounds for so many teams. Seconds are those of the reference machine.

    `entries_a_day` is what teams may send on a day of the busiest public phase, None without a limit; `workers` keep up
    with that. `final_runs` are those of the final ranking, with baselines and parents, and `final_seconds` what they
    take one worker; both are zero without private items.
    """

    teams: int
    seconds: float
    a_worker_a_day: int
    entries_a_day: int | None
    workers: int | None
    final_runs: int
    final_seconds: float


def judging_time(competition: Competition, teams: int) -> JudgingTime:
    """Say how long judging takes at most if every team sends and chooses as much as it may."""
    seconds = competition.budget.seconds
    a_worker = max(1, int(DAY_SECONDS // seconds))
    daily = [phase.quota.per_day for phase in competition.public_phases]
    limits = [limit for limit in daily if limit is not None]
    is_limited = len(limits) == len(daily) > 0
    entries = teams * max(limits) if is_limited else None
    final_runs = _final_runs(competition, teams)
    return JudgingTime(
        teams=teams,
        seconds=seconds,
        a_worker_a_day=a_worker,
        entries_a_day=entries,
        workers=None if entries is None else -(-entries // a_worker),
        final_runs=final_runs,
        final_seconds=final_runs * seconds,
    )


def _final_runs(competition: Competition, teams: int) -> int:
    if not any(task.private for task in competition.tasks):
        return 0
    return teams * competition.selections + len(competition.ranking.baselines) + len(competition.models)
