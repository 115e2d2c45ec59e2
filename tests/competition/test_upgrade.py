"""A database of every earlier shape, with a competition in full swing, answers after its upgrade as it did before."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi.testclient import TestClient

from competition.filled import fill
from competition.made import Clock, tiny_competition
from competition.serving import Served, serve
from competition.test_database import bring_to
from cuvee.competition import audit, migrations
from cuvee.competition.app import make_app
from cuvee.competition.database import Database, open_database, revision_of, sqlite_url
from cuvee.competition.locks import is_postgres
from cuvee.competition.service import Service
from cuvee.competition.tables import metadata, tokens

PATHS = (
    (None, "/api/board"),
    (None, "/api/board.csv"),
    (None, "/api/final"),
    (None, "/api/submissions"),
    (None, "/api/teams/5"),
    ("team", "/api/me"),
    ("team", "/api/quota"),
    ("team", "/api/submissions"),
    ("team", "/api/submissions/10"),
    ("team", "/api/submissions/10/logs"),
    ("team", "/api/submissions/10/archive"),
    ("team", "/api/submissions/11"),
    ("organiser", "/api/submissions/1"),
    ("organiser", "/api/organiser/queue"),
    ("organiser", "/api/organiser/workers"),
    ("organiser", "/api/organiser/duplicates"),
    ("organiser", "/api/organiser/finals"),
    ("worker", "/api/me"),
)
"""What is asked before and after."""


def shapes() -> list[str]:
    """Return the revisions that a database may have, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A competition of today's shape, whose rows the tests put into databases of earlier ones."""
    database = open_database(sqlite_url(tmp_path_factory.mktemp("upgrade") / "competition.db"))
    for served in serve(database, Clock(), tiny_competition(logs="all")):
        fill(served)
        served.http.post("/sign-in", data={"token": served.tokens["team"]})
        yield served
    database.close()


@pytest.mark.parametrize("shape", shapes())
def test_an_upgraded_database_answers_as_before(filled: Served, empty: str, shape: str, tmp_path: Path) -> None:
    rows = known_to(shape, every_row(filled.service.database))
    fresh = sqlite_url(tmp_path / "fresh.db")
    write_as(fresh, shapes()[-1], rows)
    newest = open_database(fresh)
    before = answers(moved(filled, newest))
    newest.close()
    write_as(empty, shape, rows)
    database = open_database(empty)
    upgraded = moved(filled, database)
    assert answers(upgraded) == before
    after = every_row(database)
    for name in rows.keys() - {"tokens", "audit"}:
        assert after[name] == rows[name], name
    assert without(after["audit"], "digest") == without(rows["audit"], "digest")
    with database.read() as connection:
        assert audit.look_at_chain(connection).is_whole
        assert revision_of(connection) == shapes()[-1]
    database.close()


@pytest.mark.parametrize("shape", shapes())
def test_an_upgraded_competition_goes_on(filled: Served, empty: str, shape: str) -> None:
    write_as(empty, shape, every_row(filled.service.database))
    database = open_database(empty)
    upgraded = moved(filled, database)
    upgraded.judge_all()
    number = upgraded.send(title="sent after the upgrade", key="after")
    assert number == 13
    upgraded.judge_all()
    states = [upgraded.ask("team", "GET", f"/api/submissions/{n}").json()["state"] for n in (10, 11, 12, 13)]
    assert states == ["scored", "rejected", "scored", "scored"]
    upgraded.page("team", "/sign-in")
    signed = upgraded.http.post("/sign-in", data={"token": upgraded.tokens["team"]})
    assert signed.status_code == 303
    with database.read() as connection:
        assert audit.look_at_chain(connection).is_whole
    database.close()


@pytest.mark.parametrize("shape", shapes())
def test_sessions_that_hang_on_no_token_are_over_and_tokens_stay(filled: Served, empty: str, shape: str) -> None:
    rows = every_row(filled.service.database)
    write_as(empty, shape, rows)
    database = open_database(empty)
    with database.read() as connection:
        sessions = sa.select(tokens).where(tokens.c.expires_at.is_not(None))
        assert len(connection.execute(sessions).all()) == (0 if shape < "0003" else 1)
        lasting = sa.select(sa.func.count()).where(tokens.c.expires_at.is_(None))
        assert connection.execute(lasting).scalar() == len(rows["tokens"]) - 1
    database.close()


def test_tokens_of_a_search_before_the_upgrade_are_read_from_its_verdict(filled: Served, empty: str) -> None:
    rows = every_row(filled.service.database)
    searched = rows["public_results"][0]["submission_id"]
    for row in rows["verdicts"]:
        if row["submission_id"] == searched and row["purpose"] == "public":
            row["content"]["figures"]["tuning"] = {"tokens": 5658, "texts": {}, "search": None}
    write_as(empty, "0008_controls", rows)
    database = open_database(empty)
    counts = [row["tuning_tokens"] for row in every_row(database)["public_results"]]
    assert counts == [5658] + [0] * (len(counts) - 1)
    database.close()


def answers(served: Served) -> dict[str, Any]:
    """Ask for everything. A worker's last sign of life and the clock do not change between."""
    collected = {}
    for who, path in PATHS:
        answer = served.ask(who, "GET", path)
        assert answer.status_code == 200, (path, answer.text)
        collected[f"{who} {path}"] = answer.content
    return collected


def every_row(database: Database) -> dict[str, list[Mapping[str, Any]]]:
    with database.read() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(ordered(table)).mappings()]
            for table in metadata.sorted_tables
        }


def ordered(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).order_by(*table.primary_key)


def without(rows: list[Mapping[str, Any]], column: str) -> list[Mapping[str, Any]]:
    return [{name: value for name, value in row.items() if name != column} for row in rows]


def known_to(shape: str, rows: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return rows without what a database of an earlier shape has no place for: tables, and values of columns."""
    engine = sa.create_engine("sqlite://")
    known: dict[str, list[Mapping[str, Any]]] = {}
    with engine.begin() as connection:
        bring_to(connection, shape)
        inspected = sa.inspect(connection)
        for table in metadata.sorted_tables:
            if not inspected.has_table(table.name):
                known[table.name] = []
                continue
            there = {column["name"] for column in inspected.get_columns(table.name)}
            lacking = {column.name: absent(column) for column in table.columns if column.name not in there}
            known[table.name] = [{**row, **lacking} for row in rows[table.name]]
    engine.dispose()
    return known


def absent(column: sa.Column[Any]) -> Any:
    """Return what a column holds in a row that was written before there was one."""
    if column.nullable:
        return None
    return {"string": "", "boolean": False, "integer": 0, "big_integer": 0}[column.type.__visit_name__]


def write_as(url: str, shape: str, rows: Mapping[str, list[Mapping[str, Any]]]) -> None:
    """Make a database of an earlier shape and put rows into the tables and columns that it had."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        bring_to(connection, shape)
        connection.exec_driver_sql("DELETE FROM counters")
        inspected = sa.inspect(connection)
        for table in metadata.sorted_tables:
            if not inspected.has_table(table.name) or not rows[table.name]:
                continue
            there = {column["name"] for column in inspected.get_columns(table.name)}
            columns = [sa.column(column.name, column.type) for column in table.columns if column.name in there]
            names = {column.name for column in columns}
            cut = [{name: row[name] for name in names} for row in rows[table.name]]
            connection.execute(sa.table(table.name, *columns).insert(), cut)
            if "id" in names and is_postgres(connection):
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), (SELECT max(id) FROM {table.name}))"
                )
    engine.dispose()


def moved(served: Served, database: Database) -> Served:
    """Serve the same competition, to the same people, from another database."""
    service = Service(database, served.service.competition, served.service.limits, served.clock)
    http = TestClient(make_app(service), follow_redirects=False)
    return Served(service, served.clock, http, served.tokens, served.teams)
