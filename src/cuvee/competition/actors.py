"""Who acts: a visitor, a team, a worker, a rater, an organiser, or the queue itself."""

from dataclasses import dataclass

from cuvee.competition.refusals import Refusal
from cuvee.competition.states import Role


@dataclass(frozen=True)
class Actor:
    """Who asks. `team_id` is a team's; `name` is the team's, the worker's or the organiser's."""

    role: Role
    name: str
    team_id: int | None = None
    token_id: int | None = None

    def needs(self, *roles: Role) -> None:
        """Refuse anybody else."""
        if self.role in roles:
            return
        if self.role is Role.VISITOR:
            raise Refusal("not_signed_in", "this needs a token", hint="send it as 'Authorization: Bearer TOKEN'")
        raise Refusal("not_allowed", f"a {self.role} may not do this", hint=f"only for: {', '.join(roles)}")


VISITOR = Actor(Role.VISITOR, "visitor")
QUEUE = Actor(Role.QUEUE, "queue")
