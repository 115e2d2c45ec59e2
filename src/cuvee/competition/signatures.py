"""A look at all signed verdicts of a database: does what is stored still say what workers have signed?

Who owns the database can change a score in it, but cannot sign in a worker's name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.private import private_items
from cuvee.competition.runs import PUBLIC
from cuvee.competition.tables import public_results, verdicts, worker_keys
from cuvee.errors import SubmissionError
from cuvee.submission.statement import Statement, check_document, seal

SHOWN_APART = frozenset({"log"})
"""What the stored verdict has besides: logs have a table of their own."""


@dataclass(frozen=True)
class Signatures:
    """How many verdicts are signed and unsigned, and what does not fit."""

    signed: int
    unsigned: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        if self.problems:
            return "signed verdicts: " + "; ".join(self.problems)
        return f"signed verdicts: {self.signed} say what is stored; {self.unsigned} are unsigned"


def look_at_signatures(connection: Connection) -> Signatures:
    """Check every signature, and compare what it is of with what is stored."""
    keys = {row.public_key: row.worker for row in connection.execute(sa.select(worker_keys))}
    rows = connection.execute(sa.select(verdicts).order_by(verdicts.c.submission_id, verdicts.c.purpose)).all()
    signed = [row for row in rows if row.signed is not None]
    problems = []
    for row in signed:
        for problem in _problems(connection, row, keys):
            problems.append(f"the {row.purpose} verdict of submission {row.submission_id}: {problem}")
    return Signatures(len(signed), len(rows) - len(signed), tuple(problems))


def _problems(connection: Connection, row: Row[Any], keys: Mapping[str, str]) -> Iterator[str]:
    public_key = str(row.signed.get("public_key"))
    if public_key not in keys:
        yield "it is signed with a key that no worker has registered"
    try:
        statement = check_document(row.signed, public_key)
    except SubmissionError as error:
        yield error.message
        return
    if _comparable(row.content) != _comparable(statement.verdict.to_json()):
        yield "what is stored differs from what was signed"
    if row.purpose == PUBLIC:
        yield from _public_problems(connection, row, statement)
    items = private_items(connection, row.submission_id, row.purpose)
    if seal(row.salt, items) != statement.private_items_sha256:
        yield "the private scores of its items are not those that were sealed"


def _public_problems(connection: Connection, row: Row[Any], statement: Statement) -> Iterator[str]:
    result = connection.execute(
        sa.select(public_results).where(public_results.c.submission_id == row.submission_id)
    ).one_or_none()
    items = result.item_scores if result is not None else {}
    if seal(row.salt, items) != statement.public_items_sha256:
        yield "the public scores of its items are not those that were sealed"
    signed = statement.verdict.public.macro.value if statement.verdict.public else None
    stored = result.value if result is not None else None
    if stored != signed:
        yield f"its public score is {stored} on the board and {signed} in what was signed"


def _comparable(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a verdict without what is kept elsewhere."""
    plain = {name: value for name, value in content.items() if name not in SHOWN_APART}
    if plain.get("public") is not None:
        plain["public"] = {name: value for name, value in plain["public"].items() if name != "items"}
    return plain
