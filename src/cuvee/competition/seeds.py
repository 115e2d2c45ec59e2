"""Entries that stand on the board from the start: the models that all have (parents), and baselines.

Each is an ordinary submission, judged by the same worker; it uses no quota and takes no rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from cuvee.api import recipe_from_text
from cuvee.competition.actors import Actor
from cuvee.competition.inbox import opened
from cuvee.competition.service import Service
from cuvee.competition.submissions import enter
from cuvee.competition.tables import teams
from cuvee.competition.teams import Kind, new_team
from cuvee.submission.competition import Competition
from cuvee.submission.lock import make_lock
from cuvee.submission.pack import LOCK, RECIPE, canonical_json, make_archive


@dataclass(frozen=True)
class Seed:
    """An entry of the organiser's: its name, its recipe, and the folder that paths in the recipe lead from."""

    name: str
    kind: Kind
    recipe: str
    folder: Path


def seeds(competition: Competition) -> Iterator[Seed]:
    """List the parents and baselines of a competition."""
    for model in competition.models:
        recipe = f"merge_method: passthrough\nmodels:\n  - model: {model.name}\n"
        yield Seed(model.name.rpartition("/")[2], "parent", recipe, competition.folder)
    for place in competition.ranking.baselines:
        path = competition.folder / place
        yield Seed(path.stem, "baseline", path.read_text(encoding="utf-8"), path.parent)


def enter_seeds(service: Service, organiser: Actor) -> int:
    """Enter what is not there yet. Return how many entries are new."""
    phase = service.competition.first_public_phase
    if phase is None:
        return 0
    with service.database.read() as connection:
        known = set(connection.execute(sa.select(teams.c.name)).scalars())
    new = [seed for seed in seeds(service.competition) if seed.name not in known]
    for seed in new:
        received = opened(packed(seed, service.competition), seed.name, "seed")
        with service.database.write() as connection:
            team_id, _ = new_team(connection, organiser, seed.name, service.now(connection), kind=seed.kind)
            enter(connection, organiser, team_id, received, phase.name, service.now(connection))
    return len(new)


def packed(seed: Seed, competition: Competition) -> bytes:
    """Make the archive of a recipe, as a participant would."""
    recipe = recipe_from_text(seed.recipe, folder=seed.folder)
    lock = canonical_json(make_lock(recipe, competition).to_json())
    return make_archive(seed.name, "recipe", competition.name, {RECIPE: seed.recipe.encode(), LOCK: lock})
