"""A whole season: opened, entered, searched, copied, cancelled, frozen, revealed, reported, backed up, restored.

It begins on one kind of database and goes on from its backup on the other.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from competition.made import TEXT, Clock, tiny_competition
from competition.serving import FakeJudge, Served, archive, serve
from cuvee.competition import audit
from cuvee.competition.backup import restore_backup, write_backup
from cuvee.competition.database import Database, open_database
from cuvee.competition.paper.results import SEARCH, read_results
from cuvee.competition.paper.write import files_of, write_report
from cuvee.competition.views import final_view
from cuvee.progress import Progress
from cuvee.submission.competition import Competition, load_competition
from cuvee.submission.pack import make_archive
from cuvee.submission.verdict import Verdict

SPACE = b"""
models: [{model: models/a, text: competition:sums}]
base_model: models/b
tasks: ["competition:sums"]
search: {method: [ties], budget: {tokens: 100}}
"""
FOUND = "merge_method: task_arithmetic\nbase_model: models/b\nmodels: [{model: models/a, parameters: {weight: 0.4}}]\n"

other_kind = pytest.mark.parametrize(
    ("url", "empty"), [("sqlite", "postgresql"), ("postgresql", "sqlite")], indirect=True
)


class Searching(FakeJudge):
    """Finds a recipe in what is a search space."""

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        said = super().__call__(archive, workdir, purpose, progress)
        return replace(said, found_recipe=FOUND) if b"search:" in archive.read_bytes() else said


@pytest.fixture
def competition(tmp_path: Path) -> Competition:
    folder = tmp_path / "tiny"
    for name in ("tasks/capitals.csv", "tasks/sums.csv", "private/capitals.csv", "private/sums.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"a question of {name}\n")
    (folder / "competition.yaml").write_text(tiny_competition(text=TEXT).text)
    return load_competition(folder)


@pytest.fixture
def opened(database: Database, clock: Clock, competition: Competition) -> Iterator[Served]:
    yield from serve(database, clock, competition)


@other_kind
def test_a_season_from_opening_to_a_restored_backup(
    opened: Served, competition: Competition, empty: str, tmp_path: Path
) -> None:
    entered = opened.send("team", title="first")
    searched = send(opened, make_archive("space", "recipe", "tiny", {"recipe.yaml": SPACE, "lock.json": LOCK}))
    copied = opened.send("other", title="first", key="copied")
    cancelled = opened.send("other", title="a slip", key="slip", weight=7)
    assert opened.ask("other", "POST", f"/api/submissions/{cancelled}/cancel").json()["state"] == "cancelled"
    opened.judge_all(Searching())

    board = opened.ask(None, "GET", "/api/board").json()["places"]
    assert {place["submission"] for place in board} <= {entered, searched, copied}
    same = opened.ask("organiser", "GET", "/api/organiser/duplicates").json()
    assert any(found["submissions"] == [entered, copied] for found in same)
    assert opened.ask(None, "GET", f"/api/submissions/{searched}").json()["found_recipe"] is None, "before the reveal"
    assert opened.ask("team", "GET", f"/api/submissions/{searched}").json()["found_recipe"] == FOUND

    assert opened.ask("team", "POST", f"/api/submissions/{searched}/select", json={"chosen": True}).status_code == 200
    assert opened.ask("organiser", "POST", "/api/organiser/freeze").json() == {"count": 2}
    late = opened.ask("team", "POST", "/api/submissions", content=archive("late"), params={"title": "late"})
    assert late.json()["error"]["code"] == "closed"
    opened.judge_all(Searching())
    assert opened.ask("organiser", "POST", "/api/organiser/publish").json() == {"count": 2}
    assert opened.ask(None, "GET", f"/api/submissions/{searched}").json()["found_recipe"] == FOUND

    report = reported(opened)
    assert f"recipes/submission-{searched}.yaml" in report
    assert report[f"recipes/submission-{searched}.yaml"] == FOUND
    assert f"task\\_arithmetic, {SEARCH}" in report["report.md"]
    with opened.service.database.read() as connection:
        shown = final_view(connection)
        write_backup(connection, competition, tmp_path / "season.tar", opened.clock())

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


LOCK = b'{"models": [{"reference": "models/a"}, {"reference": "models/b"}]}'


def send(served: Served, content: bytes) -> int:
    answer = served.ask("team", "POST", "/api/submissions", content=content, params={"title": "a search"})
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
