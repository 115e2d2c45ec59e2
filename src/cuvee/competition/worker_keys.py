"""The keys that workers sign verdicts with: private keys in a worker's own file, public keys in the database.

A worker makes its key when it first starts and registers the public half whenever it says hello. What a key has signed
stays valid after the key has ended; nothing new is taken under it, and it does not come back.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.refusals import Refusal
from cuvee.competition.tables import worker_keys
from cuvee.errors import PlatformError
from cuvee.submission.sign import new_key, read_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def state_folder() -> Path:
    """Return where this user's programs keep what is theirs between two starts."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "cuvee"


def own_key(whose: str) -> "Ed25519PrivateKey":
    """Return the key of a worker on this machine, which is made if there is none.

    `whose` tells workers apart: the token of one, or the folder and the name of one beside the database. Raises
    PlatformError where others may read the file.
    """
    path = state_folder() / "workers" / f"{hashlib.sha256(whose.encode()).hexdigest()[:16]}.key"
    try:
        if not path.exists():
            _make(path)
    except OSError as error:
        hint = "name a folder of its own by XDG_STATE_HOME"
        raise PlatformError(f"this worker cannot keep a key: {error.strerror}", where=str(path), hint=hint) from error
    if path.stat().st_mode & 0o077:
        raise PlatformError(
            "others may read this worker's key", where=str(path), hint="remove the file: a new key is made"
        )
    return read_key(path)


def register(connection: Connection, worker: Actor, public_key: str, now: datetime) -> None:
    """Take a worker's public key, unless it is there. Raises Refusal for one that has ended or is another worker's."""
    row = connection.execute(sa.select(worker_keys).where(worker_keys.c.public_key == public_key)).one_or_none()
    if row is None:
        connection.execute(
            worker_keys.insert().values(public_key=public_key, worker=worker.name, registered_at=now, ended_at=None)
        )
        audit.record(connection, worker, "worker key", worker.name, now, public_key=public_key)
        return
    hint = "remove the worker's key file in ~/.local/state/cuvee/workers, or below XDG_STATE_HOME: it makes a new one"
    if row.worker != worker.name:
        raise Refusal("not_allowed", "this key is another worker's", hint=hint)
    if row.ended_at is not None:
        raise Refusal("not_allowed", "this worker's key has ended with its token", hint=hint)


def end_keys(connection: Connection, worker: str, now: datetime) -> None:
    """Take no more verdicts under the keys of a worker."""
    theirs = (worker_keys.c.worker == worker, worker_keys.c.ended_at.is_(None))
    connection.execute(worker_keys.update().where(*theirs).values(ended_at=now))


def is_registered(connection: Connection, worker: str, public_key: str) -> bool:
    """Tell whether verdicts are taken from a worker under a key."""
    found = connection.execute(
        sa.select(worker_keys.c.public_key).where(
            worker_keys.c.public_key == public_key,
            worker_keys.c.worker == worker,
            worker_keys.c.ended_at.is_(None),
        )
    ).first()
    return found is not None


def all_keys(connection: Connection) -> Sequence[Row[Any]]:
    """List all keys that ever signed, oldest first."""
    return connection.execute(
        sa.select(worker_keys).order_by(worker_keys.c.registered_at, worker_keys.c.public_key)
    ).all()


def _make(path: Path) -> None:
    """Write a new key so that it appears whole; whoever comes second takes the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    new_key(partial)
    with contextlib.suppress(FileExistsError):
        os.link(partial, path)
    partial.unlink()
