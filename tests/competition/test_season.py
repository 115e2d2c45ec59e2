"""A whole season: opened, entered, searched, copied, cancelled, frozen, revealed, reported, backed up, restored.

It begins on one kind of database and goes on from its backup on the other. The real judge searches the search space;
recipes are judged by chance, which is fast.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from competition.made import Clock
from competition.seasons import Simulated
from competition.serving import Served, serve
from cuvee.competition import audit
from cuvee.competition.backup import restore_backup, write_backup
from cuvee.competition.database import Database, open_database
from cuvee.competition.judging import Bench
from cuvee.competition.paper.results import SEARCH, read_results
from cuvee.competition.paper.tables import in_markdown
from cuvee.competition.paper.write import files_of, write_report
from cuvee.competition.views import final_view
from cuvee.progress import Progress
from cuvee.submission.asked import is_space, read_asked
from cuvee.submission.competition import Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.pack import read_archive
from cuvee.submission.template import new_competition
from cuvee.submission.verdict import Verdict
from cuvee.submission.written import WrittenRecipes

TOKENS = 40_000
ROWS = 48
"""Half of a text's rows are searched on, and that is as few as a search takes."""

ITEMS = 2
SPACE = """\
base_model: models/base
models: [models/sort, models/odd]
tasks: ["competition:sort"]
budget: 12
search: {method: [task_arithmetic], parameters: {lambda: [0.2, 1.2]}}
select: {top: 1}
"""
SUM = "merge_method: linear\nmodels: [{model: models/sort}, {model: models/odd}]\nparameters: {weight: WEIGHT}\n"

other_kind = pytest.mark.parametrize(
    ("url", "empty"), [("sqlite", "postgresql"), ("postgresql", "sqlite")], indirect=True
)


@dataclass
class Searching:
    """The real judge for search spaces, which judges each once for each purpose; chance for recipes."""

    competition: Competition
    known: dict[tuple[str, str], Verdict] = field(default_factory=dict)

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        if not is_space(read_archive(archive).recipe_text, "recipe"):
            return Simulated(self.competition, ITEMS)(archive, workdir, purpose, progress)
        key = (hashlib.sha256(archive.read_bytes()).hexdigest(), purpose)
        if key not in self.known:
            self.known[key] = Bench(self.competition)(archive, workdir, purpose, progress)
        return self.known[key]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Searching:
    """Judge the bundled competition with two items a task, short texts, and few tokens for a search."""
    folder = tmp_path_factory.mktemp("season") / "family"
    made = new_competition(folder, "a secret of the season", items=ITEMS)
    text = made.text.replace("tuning_tokens: 2000000", f"tuning_tokens: {TOKENS}") + "without: [sandbox]\n"
    for short in made.calibration:
        place = folder / short.file
        place.write_text("".join(place.read_text().splitlines(keepends=True)[:ROWS]))
        text = text.replace(short.sha256, hashlib.sha256(place.read_bytes()).hexdigest())
    (folder / "competition.yaml").write_text(text)
    return Searching(load_competition(folder))


@pytest.fixture
def opened(database: Database, judge: Searching) -> Iterator[Served]:
    yield from serve(database, Clock(judge.competition.phases[0].opens), judge.competition)


@other_kind
def test_a_season_from_opening_to_a_restored_backup(
    opened: Served, judge: Searching, empty: str, tmp_path: Path
) -> None:
    entered = send(opened, "team", SUM.replace("WEIGHT", "1.0"), "first")
    searched = send(opened, "team", SPACE, "a search")
    copied = send(opened, "other", SUM.replace("WEIGHT", "1.0"), "first")
    cancelled = send(opened, "other", SUM.replace("WEIGHT", "0.7"), "a slip")
    assert opened.ask("other", "POST", f"/api/submissions/{cancelled}/cancel").json()["state"] == "cancelled"
    opened.work(judge)

    board = opened.ask(None, "GET", "/api/board").json()["places"]
    assert {place["submission"] for place in board} <= {entered, searched, copied}
    same = opened.ask("organiser", "GET", "/api/organiser/duplicates").json()
    assert any(found["submissions"] == [entered, copied] for found in same)
    mine = opened.ask("team", "GET", f"/api/submissions/{searched}").json()
    assert mine["state"] == "scored", mine
    tuning = mine["figures"]["tuning"]["search"]
    assert 0 < tuning["tokens"] <= TOKENS
    found = mine["found_recipe"]
    assert "models/sort" in found, "the expert of the task is part of it"
    method = read_asked(found, source="found").methods
    assert opened.ask(None, "GET", f"/api/submissions/{searched}").json()["found_recipe"] is None, "before the reveal"

    assert opened.ask("team", "POST", f"/api/submissions/{searched}/select", json={"chosen": True}).status_code == 200
    assert opened.ask("organiser", "POST", "/api/organiser/freeze").json() == {"count": 2}
    late = opened.ask("team", "POST", "/api/submissions", content=packed(opened, SPACE, "late"), params={"title": "x"})
    assert late.json()["error"]["code"] == "closed"
    opened.work(judge)
    assert opened.ask("organiser", "POST", "/api/organiser/publish").json() == {"count": 2}
    assert opened.ask(None, "GET", f"/api/submissions/{searched}").json()["found_recipe"] == found

    report = reported(opened)
    assert report[f"recipes/submission-{searched}.yaml"] == found
    assert f"{in_markdown(method)}, {SEARCH}" in report["report.md"]
    with opened.service.database.read() as connection:
        shown = final_view(connection)
        write_backup(connection, judge.competition, tmp_path / "season.tar", opened.clock())

    restore_backup(tmp_path / "season.tar", tmp_path / "again", empty)
    database = open_database(empty)
    for again in serve_again(database, opened):
        assert reported(again) == report
        with database.read() as connection:
            assert final_view(connection) == shown
            assert audit.look_at_chain(connection).is_whole
            results = read_results(connection, again.service.competition, again.clock())
        assert write_report(results, tmp_path / "paper") == len(report)
        assert again.ask("team", "GET", f"/api/submissions/{entered}").status_code == 200, "tokens still count"
    database.close()


def packed(served: Served, recipe: str, name: str) -> bytes:
    return WrittenRecipes(served.service.competition).pack(recipe, name)


def send(served: Served, who: str, recipe: str, name: str) -> int:
    content = packed(served, recipe, name)
    answer = served.ask(who, "POST", "/api/submissions", content=content, params={"title": name})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def reported(served: Served) -> dict[str, str]:
    with served.service.database.read() as connection:
        return files_of(read_results(connection, served.service.competition, served.clock()))


def serve_again(database: Database, before: Served) -> Iterator[Served]:
    """Serve a restored database to the people of the first one, whose tokens it knows."""
    from fastapi.testclient import TestClient

    from cuvee.competition.app import make_app

    service = replace(before.service, database=database)
    with TestClient(make_app(service), follow_redirects=False) as http:
        yield replace(before, service=service, http=http)
