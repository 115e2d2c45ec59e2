"""The database's shape, and its states as one table."""

import itertools
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from competition.made import ORGANISER, Clock
from cuvee.competition.database import Database, _engine, open_database
from cuvee.competition.states import FINAL, MOVES, Role, State, may_move, uses_quota
from cuvee.competition.tables import archives, metadata, public_results, submissions
from cuvee.competition.teams import new_team
from cuvee.errors import PlatformError


def test_the_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_opening_again_changes_nothing(url: str) -> None:
    for _ in range(2):
        opened = open_database(url)
        with opened.read() as connection:
            assert connection.execute(sa.text("SELECT value FROM counters")).scalars().all() == [0]
        opened.close()


OLD_RESULT = """
INSERT INTO public_results (
  submission_id, value, low, high, released, tasks, item_scores, seconds, memory_bytes, tokens, parameters,
  weights_digest, predictions_digest
) VALUES (1, 0.5, 0.4, 0.6, true, '{}', '{}', 2.0, 3000, 4, 5, 'a', 'b')
"""


def test_results_from_before_keep_their_figures_and_have_no_cpu_seconds(empty: str, clock: Clock) -> None:
    database = Database(_engine(empty))
    with database.engine.begin() as connection:
        bring_to(connection, "0003_sessions")
    sent = {"phase": "open", "title": "mine", "request_key": "a", "recipe": "", "lineage": [], "submitted_at": clock()}
    with database.write() as connection:
        team, _ = new_team(connection, ORGANISER, "Vintners", clock())
        connection.execute(archives.insert().values(digest="a", content=b"", received_at=clock()))
        connection.execute(submissions.insert().values(id=1, team_id=team, archive_digest="a", **sent))
        connection.execute(sa.text(OLD_RESULT))
    database.close()
    upgraded = open_database(empty)
    with upgraded.read() as connection:
        row = connection.execute(sa.select(public_results)).one()
    upgraded.close()
    assert (row.seconds, row.memory_bytes, row.cpu_seconds) == (2.0, 3000, None)


def test_a_database_of_the_first_shape_is_brought_up_to_date(empty: str) -> None:
    """Tokens stay, and sessions, which hung on nothing, are over. Names are compared by what they look like now."""
    engine = sa.create_engine(empty)
    with engine.begin() as connection:
        bring_to(connection, "0001")
        teams = (1, "Vintners", "vintners"), (2, "Ꮩintners", "ꮩintners"), (3, "Ill Wine", "illwine")
        for number, name, key in teams:
            connection.execute(
                sa.text("INSERT INTO teams (id, name, key, members, created_at) VALUES (:id, :name, :key, '[]', :now)"),
                {"id": number, "name": name, "key": key, "now": "2026-01-01 00:00:00+00:00"},
            )
        for digest, expires in (("a", None), ("b", "2030-01-01 00:00:00+00:00")):
            connection.execute(
                sa.text(
                    "INSERT INTO tokens (digest, role, team_id, label, created_at, expires_at) "
                    "VALUES (:digest, 'team', 1, 'x', '2026-01-01 00:00:00+00:00', :expires)"
                ),
                {"digest": digest, "expires": expires},
            )
    engine.dispose()
    opened = open_database(empty)
    with opened.read() as connection:
        assert connection.execute(sa.text("SELECT digest, parent_id FROM tokens")).all() == [("a", None)]
        keys = connection.execute(sa.text("SELECT key FROM teams ORDER BY id")).scalars().all()
        assert keys == ["vlntners", "vlntners#2", "lllwlne"]
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    opened.close()


def bring_to(connection: sa.Connection, shape: str) -> None:
    from alembic import command
    from alembic.config import Config

    from cuvee.competition import migrations

    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, shape)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/x.db"])
def test_a_database_that_cannot_be_opened_is_one_clear_error(url: str) -> None:
    with pytest.raises(PlatformError, match="database"):
        open_database(url)


def test_a_database_of_a_newer_version_is_one_clear_error(url: str) -> None:
    opened = open_database(url)
    with opened.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999_later'"))
    opened.close()
    with pytest.raises(PlatformError, match=r"made by a newer version of cuvee.*'9999_later'"):
        open_database(url)


def test_every_state_is_reached_and_left_by_a_move_and_neither_team_nor_worker_leaves_an_end() -> None:
    assert {end for _, end in MOVES} == set(State)
    assert {start for start, _ in MOVES} == set(State)
    for (start, _), roles in MOVES.items():
        if start in FINAL:
            assert roles <= {Role.ORGANISER, Role.QUEUE}


def test_a_move_that_is_not_in_the_table_is_nobodys() -> None:
    for start, end in itertools.product(State, State):
        if (start, end) not in MOVES:
            assert not any(may_move(start, end, role) for role in Role)


@pytest.mark.parametrize(
    ("state", "started", "given_back", "counts"),
    [
        (State.QUEUED, False, False, True),
        (State.SCORED, True, False, True),
        (State.REJECTED, True, False, True),
        (State.FAILED, True, False, True),
        (State.ERRORED, True, False, False),
        (State.CANCELLED, False, False, False),
        (State.CANCELLED, True, False, True),
        (State.SCORED, True, True, False),
    ],
)
def test_what_uses_quota(state: State, started: bool, given_back: bool, counts: bool) -> None:
    assert uses_quota(state, started=started, given_back=given_back) is counts
