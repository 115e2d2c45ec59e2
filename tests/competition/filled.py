"""A competition that looks like one: parents, baselines, teams with several tries, one rejected, one under way."""

import numpy as np

from competition.made import ORGANISER, TASKS, scores_of, verdict
from competition.serving import Served, archive
from cuvee.competition.inbox import opened
from cuvee.competition.submissions import enter
from cuvee.competition.teams import new_team
from cuvee.submission.verdict import PublicScores, Verdict

TEAMS = (
    ("Château Recherche", 0.74, 4.1),
    ("the very long name of a team of forty ch", 0.73, 8.0),
    ("<script>alert(1)</script>", 0.70, 2.2),
    ("Lees & Sons", 0.66, 3.0),
    ("Terroir", 0.58, 1.4),
    ("Oak", 0.51, 6.5),
)
OURS = (("base", "parent", 0.3, 1.0), ("capitals-expert", "parent", 0.55, 1.0), ("average", "baseline", 0.6, 1.2))


def fill(served: Served) -> None:
    """Enter and judge all."""
    generator = np.random.default_rng(3)
    easiness = {task: generator.random(60) for task in TASKS}
    judged: dict[str, Verdict] = {}

    def entered(name: str, kind: str, skill: float, seconds: float) -> None:
        received = opened(archive(name[:20].encode("ascii", "replace").decode().replace("?", "x")), name[:40], "seed")
        with served.service.database.write() as connection:
            team_id, _ = new_team(connection, ORGANISER, name, served.clock(), kind=kind)  # type: ignore[arg-type]  # as listed
            enter(connection, ORGANISER, team_id, received, "open", served.clock())
        items = {task: tuple(map(float, easiness[task] + generator.normal(0, 0.1, 60) < skill)) for task in TASKS}
        made = verdict(skill, seconds=seconds)
        judged[received.digest] = _with(made, items)
        served.clock.advance(minutes=7)

    for name, kind, skill, seconds in OURS:
        entered(name, kind, skill, seconds)
    for name, skill, seconds in TEAMS:
        entered(name, "participant", skill, seconds)
    _judge(served, judged)
    served.send(title="slerp of two")
    served.judge_all(lambda *_: verdict(0.68, 5))  # type: ignore[arg-type]  # a judge is a function
    served.send(title="too large", key="b")
    refusal = verdict(outcome="rejected", reason="rules", message="models/a has 9.1 B parameters; 8 B are allowed")
    served.judge_all(lambda *_: refusal)  # type: ignore[arg-type]  # a judge is a function
    served.send(title="waits", key="c")


def _with(made: Verdict, items: dict[str, tuple[float, ...]]) -> Verdict:
    from dataclasses import replace

    return replace(made, public=PublicScores(**scores_of(items)))  # type: ignore[arg-type]  # as made


def _judge(served: Served, judged: dict[str, Verdict]) -> None:
    import hashlib

    def judge(path, *_):  # type: ignore[no-untyped-def]  # a judge
        return judged[hashlib.sha256(path.read_bytes()).hexdigest()]

    served.judge_all(judge)
