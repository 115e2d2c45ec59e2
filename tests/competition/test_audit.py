"""The audit log is a chain: a line that was changed or taken out shows, and everybody can keep the chain's head."""

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from competition.made import ORGANISER, Clock, tiny_competition
from competition.serving import Served, serve
from cuvee.cli.app import app
from cuvee.competition import audit
from cuvee.competition.database import Database, _engine, _upgrade, open_database, sqlite_url
from cuvee.competition.locks import is_postgres
from cuvee.competition.site import write_site
from cuvee.competition.tables import audit as audit_table


@pytest.fixture
def everywhere(database: Database, clock: Clock) -> Iterator[Served]:
    yield from serve(database, clock, tiny_competition())


def look(database: Database) -> audit.Chain:
    with database.read() as connection:
        return audit.look_at_chain(connection)


def without_triggers(database: Database) -> None:
    """Do what somebody does who owns the database and wants to change its past."""
    with database.write() as connection:
        if is_postgres(connection):
            connection.execute(sa.text("DROP TRIGGER audit_append_only ON audit"))
            return
        for verb in ("update", "delete"):
            connection.execute(sa.text(f"DROP TRIGGER audit_no_{verb}"))


def test_every_line_follows_from_the_one_before_and_the_head_is_public(everywhere: Served, tmp_path: Path) -> None:
    served = everywhere
    served.send()
    served.judge_all()
    chain = look(served.service.database)
    assert chain.is_whole
    log = served.ask("organiser", "GET", "/api/organiser/audit").json()
    assert (len(log), log[-1]["digest"]) == (chain.lines, chain.head.digest)
    assert served.ask(None, "GET", "/api/competition").json()["audit_head"] == {
        "line": chain.head.line,
        "digest": chain.head.digest,
    }
    assert chain.head.digest in served.page(None, "/guide").text
    write_site(served.service, tmp_path)
    assert chain.head.digest in (tmp_path / "guide.html").read_text(encoding="utf-8")


def test_the_digest_of_a_line_can_be_computed_by_anybody(sqlite: Database, clock: Clock) -> None:
    """A line worked by hand: SHA-256 of JSON with sorted keys."""
    import hashlib

    with sqlite.write() as connection:
        audit.record(connection, ORGANISER, "frozen", "tiny", clock(), submissions=[1, 2])
    text = (
        '{"action": "frozen", "actor": "organiser", "at": "2026-06-10T12:00:00+00:00", "before": "' + "0" * 64 + '", '
        '"details": {"submissions": [1, 2]}, "role": "organiser", "subject": "tiny"}'
    )
    with sqlite.read() as connection:
        assert audit.head(connection) == audit.Head(1, hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET actor = 'nobody' WHERE id = 3",
        "UPDATE audit SET details = '{}' WHERE id = 3",
        "DELETE FROM audit WHERE id = 3",
    ],
)
def test_a_line_that_was_changed_or_taken_out_shows(
    everywhere: Served, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = everywhere.service.database
    without_triggers(database)
    with database.write() as connection:
        connection.execute(sa.text(change))
    chain = look(database)
    assert "the chain is broken: line" in chain.broken
    assert "the database does not guard it" in chain.unprotected
    url = database.engine.url.render_as_string(hide_password=False)
    with caplog.at_level(logging.WARNING, logger="cuvee.competition"):
        open_database(url).close()
    assert "the chain is broken: line" in caplog.text
    assert "the database does not guard it" in caplog.text


def test_whoever_makes_all_digests_anew_ends_at_another_head(everywhere: Served) -> None:
    database = everywhere.service.database
    kept = look(database).head
    without_triggers(database)
    with database.write() as connection:
        lines = audit.lines(connection)
        before = audit.START
        for line in lines:
            content = {**line._mapping, "actor": "nobody"}
            before = audit.line_digest(before, content)
            connection.execute(
                sa.text("UPDATE audit SET actor = 'nobody', digest = :digest WHERE id = :id"),
                {"digest": before, "id": line.id},
            )
    chain = look(database)
    assert chain.broken == "", "the forger was thorough"
    assert chain.head.line == kept.line
    assert chain.head.digest != kept.digest, "but not everywhere"


def test_many_at_once_make_one_chain(database: Database, clock: Clock) -> None:
    together = threading.Barrier(6)

    def write(nth: int) -> None:
        together.wait()
        for line in range(5):
            with database.write() as connection:
                audit.record(connection, ORGANISER, "first", f"{nth}-{line}", clock())
                audit.record(connection, ORGANISER, "second", f"{nth}-{line}", clock(), odd="é\u2028")

    threads = [threading.Thread(target=write, args=(nth,)) for nth in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain = look(database)
    assert (chain.lines, chain.broken, chain.unprotected) == (60, "", "")


OLD_LINES = sa.table(
    "audit",
    *(sa.column(name, audit_table.c[name].type) for name in ("at", "role", "actor", "action", "subject", "details")),
)


def by_the_first_version(url: str) -> Database:
    """Make a database as the first version of the tables was."""
    database = Database(_engine(url))
    with database.engine.begin() as connection:
        if is_postgres(connection):  # the tests' databases come with the newest tables
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
    _upgrade(database, "0001")
    return database


def test_lines_of_a_database_from_before_are_chained_and_guarded(url: str, clock: Clock) -> None:
    old = by_the_first_version(url)
    line = {"at": clock(), "role": "organiser", "actor": "organiser", "subject": "tiny"}
    lines = [
        {**line, "action": "frozen", "details": {"submissions": [1]}},
        {**line, "action": "published", "details": {}},
    ]
    with old.write() as connection:
        connection.execute(OLD_LINES.insert(), lines)
    old.close()
    upgraded = open_database(url)
    chain = look(upgraded)
    assert chain.is_whole, str(chain)
    first = audit.line_digest(audit.START, lines[0])
    assert chain.head == audit.Head(2, audit.line_digest(first, lines[1]))
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), upgraded.write() as connection:
        connection.execute(sa.text("UPDATE audit SET actor = 'nobody'"))
    upgraded.close()


def test_the_export_checks_the_chain(tmp_path: Path) -> None:
    from cuvee.submission.template import new_competition

    new_competition(tmp_path / "family", "a secret of the tests", items=2)
    url = sqlite_url(tmp_path / "competition.db")
    command = ["competition", "export", str(tmp_path / "family"), str(tmp_path / "all.json"), "--database", url]
    database = open_database(url)
    with database.write() as connection:
        audit.record(connection, ORGANISER, "frozen", "tiny", Clock()())
        audit.record(connection, ORGANISER, "published", "tiny", Clock()())
    good = CliRunner().invoke(app, command)
    assert good.exit_code == 0, good.output
    assert f"audit log: 2 lines, a whole chain; its head is {look(database).head.digest}" in good.stderr
    exported = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["audit"]
    assert exported[-1]["digest"] == look(database).head.digest
    without_triggers(database)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE audit SET subject = 'other' WHERE id = 1"))
    bad = CliRunner().invoke(app, command)
    assert bad.exit_code != 0
    assert "line 1 was changed" in str(bad.exception)
    database.close()
