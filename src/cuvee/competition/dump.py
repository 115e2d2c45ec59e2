"""Everything that a competition's database holds, as plain data, for its organiser alone: private scores too, archives
and digests of tokens not.
"""

import base64
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.tables import archives, metadata, tokens

LEFT_OUT = frozenset({archives.name, tokens.name})


def dump(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables but those of archives and tokens."""
    content = {}
    for table in metadata.sorted_tables:
        if table.name not in LEFT_OUT:
            rows = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
            content[table.name] = list(map(plain_row, rows))
    return content


def plain_row(row: sa.RowMapping) -> dict[str, Any]:
    """Return a row as JSON can hold it: moments in ISO's form, bytes in base64."""
    return {str(name): _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
