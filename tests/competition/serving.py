"""A competition behind its API, with people who hold tokens and a judge that needs no model."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from fastapi.testclient import TestClient

from competition.made import ORGANISER, Clock, fitted, key_of, tiny_competition, verdict
from cuvee.competition.actors import Actor
from cuvee.competition.app import make_app
from cuvee.competition.beside import DatabaseSource
from cuvee.competition.database import Database
from cuvee.competition.fitness import Fitness
from cuvee.competition.limits import Limits
from cuvee.competition.service import Service
from cuvee.competition.states import Role
from cuvee.competition.teams import new_team
from cuvee.competition.tokens import new_token
from cuvee.competition.worker import Judge, Worker
from cuvee.progress import Progress
from cuvee.submission.competition import Competition
from cuvee.submission.pack import make_archive, read_archive
from cuvee.submission.verdict import Verdict

RECIPE = "merge_method: linear\nmodels:\n  - model: models/a\n    parameters: {weight: WEIGHT}\n  - model: models/b\n"


@dataclass(frozen=True)
class Served:
    """A served competition. `tokens` are those of "team", "other", "worker" and "organiser"."""

    service: Service
    clock: Clock
    http: TestClient
    tokens: Mapping[str, str]
    teams: Mapping[str, int]

    def ask(self, who: str | None, method: str, path: str, **options: object) -> httpx2.Response:
        """Send a request to the API in somebody's name."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        headers |= dict(options.pop("headers", {}))  # type: ignore[call-overload]  # any mapping of strings
        return self.http.request(method, path, headers=headers, **options)  # type: ignore[arg-type]  # as given

    def send(self, who: str = "team", title: str = "mine", key: str | None = None, weight: float = 1.0) -> int:
        """Send a submission and return its number."""
        headers = {"X-Request-Key": key} if key else {}
        answer = self.ask(
            who, "POST", "/api/submissions", content=archive(title, weight), params={"title": title}, headers=headers
        )
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def judge_all(self, judge: "FakeJudge | None" = None, name: str = "beside") -> int:
        """Let a worker beside the database judge whatever waits. What the judge says is made to fit its run."""
        source, competition = beside(self.service, name), self.service.competition
        chosen = judge or FakeJudge()

        def fits(archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
            said = chosen(archive, workdir, purpose, progress)
            return fitted(said, read_archive(archive).digest, purpose, competition)

        return self.work(fits, source)

    def work(self, judge: Judge, source: DatabaseSource | None = None) -> int:
        """Let a worker hand in whatever the judge says."""
        return Worker(source or beside(self.service), judge, Fitness).run(threading.Event(), once=True)

    def page(self, who: str | None, path: str, **options: object) -> httpx2.Response:
        """Open a page in somebody's name."""
        self.http.cookies.clear()
        if who:
            self.http.cookies.set("cuvee", self.tokens[who])
        answer = self.http.get(path, **options)  # type: ignore[arg-type]  # as given
        self.http.cookies.clear()
        return answer


def beside(service: Service, name: str = "beside") -> DatabaseSource:
    """Return what a worker beside the database takes its runs from."""
    return DatabaseSource(service, Actor(Role.WORKER, name), key_of(name))


@dataclass(frozen=True)
class FakeJudge:
    """Judges by the archive's hash: the same archive always gets the same verdict."""

    private_seed: int = 1
    competition: Competition = field(default_factory=tiny_competition)

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        seed = int.from_bytes(hashlib.sha256(archive.read_bytes()).digest()[:4], "big")
        progress.start("evaluates", 1, "items")
        progress.advance(1)
        progress.finish()
        skill, seconds = 0.3 + 0.5 * (seed % 101) / 100, 1 + seed % 7
        said = verdict(skill, seed, private_seed=self.private_seed, seconds=seconds)
        return fitted(said, read_archive(archive).digest, purpose, self.competition)


def archive(name: str = "mine", weight: float = 1.0) -> bytes:
    """Make a small archive."""
    lock = b'{"models": [{"reference": "models/a"}, {"reference": "models/b"}]}'
    recipe = RECIPE.replace("WEIGHT", f"{weight:g}").encode()
    return make_archive(name, "recipe", "tiny", {"recipe.yaml": recipe, "lock.json": lock})


def serve(database: Database, clock: Clock, competition: Competition, limits: Limits | None = None) -> Iterator[Served]:
    """Serve a competition in this process."""
    service = Service(database, competition, limits or Limits(), clock, clock.seconds)
    with database.write() as connection:
        team, token = new_team(connection, ORGANISER, "Vintners", clock())
        other, other_token = new_team(connection, ORGANISER, "Coopers", clock())
        worker = new_token(connection, ORGANISER, Role.WORKER, "far-away", clock())
        organiser = new_token(connection, ORGANISER, Role.ORGANISER, "organiser", clock())
    tokens = {"team": token, "other": other_token, "worker": worker, "organiser": organiser}
    with TestClient(make_app(service), follow_redirects=False) as http:
        yield Served(service, clock, http, tokens, {"team": team, "other": other})
