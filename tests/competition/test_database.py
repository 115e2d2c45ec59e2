"""The database's shape, and its states as one table."""

import itertools

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cuvee.competition.database import Database, open_database
from cuvee.competition.states import FINAL, MOVES, Role, State, may_move, uses_quota
from cuvee.competition.tables import metadata
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


def test_every_state_is_reached_and_left_by_a_move_and_ends_are_left_by_the_organiser_alone() -> None:
    assert {end for _, end in MOVES} == set(State)
    assert {start for start, _ in MOVES} == set(State)
    for (start, _), roles in MOVES.items():
        if start in FINAL:
            assert roles == {Role.ORGANISER}


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
