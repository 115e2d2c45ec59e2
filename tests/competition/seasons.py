"""Seasons to look at: nobody yet, three teams, four hundred; each open and after the reveal. And pictures of pages.

`python -m competition.seasons FOLDER [SEASON ...]`, in `tests/`, takes a picture of every page of every season, at
three widths and in both schemes, for people to look at. Axe looks at each page, and no page may be wider than its
window. Of four hundred teams only the pages on which so many stand are taken.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvicorn

from browser import chromium
from competition.made import ORGANISER, Clock, fitted, verdict
from competition.serving import Served, archive, serve
from cuvee.competition.console import announce
from cuvee.competition.database import open_database, sqlite_url
from cuvee.competition.inbox import opened
from cuvee.competition.ratings import rate
from cuvee.competition.seeds import enter_seeds
from cuvee.competition.submissions import enter
from cuvee.competition.teams import new_team
from cuvee.evaluation.statistics import as_score, average, mean
from cuvee.progress import Progress
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.controls import Control
from cuvee.submission.template import new_competition
from cuvee.submission.verdict import PrivateScores, PublicScores, Tuning, Verdict
from measures import broken_words, small_targets

ITEMS = 100
LONG_NAME = "The Benevolent Society of Weight Mergers"
"""As long as a name may be."""

SEASONS = {"empty": 0, "three": 3, "three-final": 3, "many": 400, "many-final": 400}

MOST_PIXELS = 8000
"""As high as a window may be; what is below it is drawn only when it comes into sight."""

CONTROLLED = ("odd", "middle")
"""Tasks that are asked with their choices in another order, too."""

ADDED = """
about:
  prizes: ["First place: 5,000 and a case of wine", "Best report: 1,000"]
  contact: Write to organisers@merge.example.org, we answer within a day.
  forum: https://forum.example.org/merging
  citation: |
    @misc{blend, title = {Blend the family: a competition}, author = {The organisers}, year = {2026}}
  news: [{date: 2026-11-01, what: The competition is announced at the workshop}]
tracks:
  - {name: frugal, title: Frugal, by: score, within: {tokens: 6000}}
  - {name: light, by: score, within: {cpu_seconds: 4}}
  - {name: per-token, title: Score for each token, by: score_per_token, at_least: 0.35}
  - {name: honest, title: Honest claims, by: claim_gap}
  - {name: report, title: Reports, by: report, scale: 5}
"""


@contextmanager
def season(folder: Path, teams: int, *, revealed: bool = False, items: int = ITEMS) -> Iterator[Served]:
    """Serve a competition on the bundled family with so many teams; with none, nothing is judged yet."""
    new_competition(folder, "a secret of these pictures", items=items)
    file = folder / "competition.yaml"
    text = file.read_text(encoding="utf-8")
    for task in CONTROLLED:
        text = text.replace(
            f"private/tasks/{task}.yaml}}", f"private/tasks/{task}.yaml, controls: {{shuffled: true}}}}"
        )
    file.write_text(text + ADDED, encoding="utf-8")
    competition = load_competition(folder)
    database = open_database(sqlite_url(folder / "private" / "competition.db"))
    clock = Clock(competition.phases[0].opens)
    for served in serve(database, clock, competition):
        clock.advance(hours=1)
        enter_seeds(served.service, ORGANISER)
        if teams:
            _play(served, Simulated(competition, items), teams, revealed)
        yield served
    database.close()


class Simulated:
    """A judge that answers by chance, by how good whoever sent it is. Items are as hard for everybody."""

    def __init__(self, competition: Competition, items: int = ITEMS) -> None:
        self.competition = competition
        self.items = items
        generator = np.random.default_rng(5)
        shape = (len(competition.tasks), items)
        self.hard = {"public": generator.random(shape), "private": generator.random(shape)}

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        from cuvee.submission.pack import read_archive

        submission = read_archive(archive)
        seed = int(submission.digest[:8], 16)
        skill = 0.35 + 0.45 * (seed % 997) / 997
        if seed % 23 == 0:
            broken = "models/base has 9.1 B parameters; 8 B are allowed"
            said = verdict(outcome="rejected", reason="rules", message=broken)
            return self._fits(said, submission.digest)
        made = verdict(skill, seed, seconds=4 + seed % 9)
        assert made.figures is not None
        tuning = Tuning(5658, {"sort": 2044, "odd": 1536, "reverse": 2078}) if seed % 5 == 0 else None
        figures = replace(made.figures, tokens=4000 + seed % 4000, tuning=tuning)
        drawn = np.random.default_rng(seed)
        public = PublicScores(**self._scores("public", skill, drawn))
        private = None
        if purpose == "final":
            shuffled = [task.name for task in self.competition.tasks if task.controls.shuffled]
            controls = tuple(Control(task, "shuffled", 0.02, -0.01, 0.05, self.items) for task in sorted(shuffled))
            private = PrivateScores(**self._scores("private", skill - 0.02, drawn), controls=controls)
        return replace(self._fits(made, submission.digest), public=public, private=private, figures=figures)

    def _fits(self, said: Verdict, digest: str) -> Verdict:
        return replace(fitted(said, digest, "public", self.competition), competition=self.competition.name)

    def _scores(self, part: str, skill: float, drawn: np.random.Generator) -> Mapping[str, Any]:
        right = self.hard[part] + drawn.normal(0, 0.15, self.hard[part].shape) < skill
        names = [task.name for task in self.competition.tasks]
        items = {name: tuple(map(float, own)) for name, own in zip(names, right, strict=True)}
        macro = average(list(items.values()), [task.weight for task in self.competition.tasks])
        return {
            "macro": as_score("macro", "accuracy", macro),
            "tasks": tuple(as_score(name, "accuracy", mean(values)) for name, values in items.items()),
            "items": items,
        }


def _play(served: Served, judge: Simulated, teams: int, revealed: bool) -> None:
    """Enter teams with one to four tries, judge all; leave some waiting, or make and publish the final ranking."""
    names = [LONG_NAME, "Château Recherche", "<script>alert(1)</script>", *(f"Team {n}" for n in range(4, teams + 1))]
    generator = np.random.default_rng(1)
    for number, name in enumerate(names[:teams]):
        with served.service.database.write() as connection:
            team_id, _ = new_team(connection, ORGANISER, name, served.clock())
        for turn in range(1 if teams > 100 and number > 20 else int(generator.integers(1, 5))):
            _enter(served, team_id, f"{name[:24]} {turn}".encode("ascii", "replace").decode(), turn)
    served.send("team", title="sum of five, aligned by the texts, 2nd", key="1", weight=3.0)
    served.send("team", title="slerp", key="2", weight=2.0)
    served.clock.advance(hours=30)
    served.work(judge)
    with served.service.database.write() as connection:
        announce(connection, ORGANISER, "Workers were away for an hour; nobody lost a try by it.", served.clock())
        for track_team, rater, value in ((1, "Ann", 4.0), (1, "Bob", 3.5), (2, "Ann", 2.0), (2, "Bob", 4.5)):
            rate(connection, ORGANISER, judge.competition, "report", track_team, rater, value, served.clock())
    if not revealed:
        served.send("team", title="waits", key="3", weight=1.5)
        return
    served.ask("organiser", "POST", "/api/organiser/freeze")
    served.work(judge)
    answer = served.ask("organiser", "POST", "/api/organiser/publish")
    assert answer.status_code == 200, answer.text


def _enter(served: Served, team_id: int, name: str, turn: int) -> None:
    content = archive("".join(c if c.isalnum() or c in " -" else "x" for c in name), 1.0 + turn)
    received = opened(content, name[:40], f"{team_id}-{turn}")
    with served.service.database.write() as connection:
        enter(connection, ORGANISER, team_id, received, served.service.competition.phases[0].name, served.clock())
    served.clock.advance(seconds=150)


def pages_of(served: Served, teams: int) -> Iterator[tuple[str | None, str]]:
    """Yield every page, with who looks at it."""
    if teams > 100:
        for path in ("/", "/board", "/final", "/versus", "/tracks/frugal", "/tracks/honest"):
            yield None, path
        yield "team", "/board"
        yield "organiser", "/organiser"
        return
    for path in ("/", "/board", "/start", "/data", "/final", "/guide", "/join", "/sign-in", "/versus"):
        yield None, path
    for track in served.service.competition.tracks:
        yield None, f"/tracks/{track.name}"
    yield None, "/nowhere"
    for who, path in (
        ("team", "/me"),
        ("team", "/board"),
        ("organiser", "/organiser"),
        ("organiser", "/organiser/alike"),
    ):
        yield who, path
    if not teams:
        yield None, "/submissions/1"
        yield None, "/teams/3"
        return
    yield None, "/board?w.sort=5&w.odd=0"
    yield None, "/board?find=nobody"
    mine = served.ask("team", "GET", "/api/submissions").json()
    for number in [each["id"] for each in mine][:2]:
        yield "team", f"/submissions/{number}"
    yield "organiser", f"/submissions/{mine[-1]['id']}"
    first = served.teams["other"] + 9
    yield None, f"/teams/{first}"
    yield None, f"/submissions/{first}"
    yield None, f"/versus?one={first}&other={first + 1}"


@contextmanager
def on_loopback(served: Served) -> Iterator[str]:
    """Serve on a port of this machine; yield the address."""
    server = uvicorn.Server(uvicorn.Config(served.http.app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def take_pictures(served: Served, teams: int, out: Path) -> list[str]:
    """Take a picture of every page, and return what is wrong by rules that a program knows."""
    from axe_playwright_python.sync_playwright import Axe

    wrong = []
    out.mkdir(parents=True, exist_ok=True)
    with on_loopback(served) as address, chromium() as browser:
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme)
            page = context.new_page()
            page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
            for who, path in pages_of(served, teams):
                context.clear_cookies()
                if who:
                    context.add_cookies([{"name": "cuvee", "value": served.tokens[who], "url": address}])
                for width in (1280, 768, 390):
                    page.set_viewport_size({"width": width, "height": 900})
                    answer = page.goto(address + path)
                    whole = page.evaluate("document.documentElement.scrollHeight")
                    page.set_viewport_size({"width": width, "height": min(whole, MOST_PIXELS)})
                    if answer.status >= 500:
                        wrong.append(f"{path} answers {answer.status}")
                    name = f"{who or 'visitor'}{''.join(c if c.isalnum() else '-' for c in path)}"
                    page.screenshot(path=out / f"{name}.{width}.{scheme}.png", full_page=True)
                    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                        wrong.append(f"{path} at {width} is too wide")
                    wrong.extend(f"{path} at {width} breaks {word}" for word in broken_words(page))
                    wrong.extend(f"{path} at {width} has a small target: {name}" for name in small_targets(page))
                for found in Axe().run(page).response["violations"]:
                    wrong.append(f"{path} {scheme}: {found['id']} {found['nodes'][0]['html'][:200]}")
            context.close()
    return wrong


def main() -> None:
    """Take the pictures of the seasons that the command line names, or of all."""
    out, *chosen = sys.argv[1:]
    for name in chosen or SEASONS:
        with TemporaryDirectory() as folder:
            with season(Path(folder) / "family", SEASONS[name], revealed=name.endswith("final")) as served:
                for line in take_pictures(served, SEASONS[name], Path(out) / name):
                    print(f"{name}: {line}")


if __name__ == "__main__":
    main()
