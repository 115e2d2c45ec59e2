"""The signed part of a verdict: the verdict as participants may see it, the run that it is of, and two seals.

The scores of single items are not shown, so they are under seals alone, a seal a part: a salted digest that tells
nothing of them, and by which the organiser can show later that none was changed.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from cuvee.documents.checked import first_problem
from cuvee.errors import PlatformError, SubmissionError
from cuvee.submission.pack import canonical_json, read_archive, strict_json
from cuvee.submission.sign import checked, signed
from cuvee.submission.verdict import PublicVerdict, Verdict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = 1
PUBLIC_KEY = r"^ed25519:[A-Za-z0-9+/]{43}=$"

Items = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Signature:
    """A worker's signature of a verdict: its public key, and the salt of the seals."""

    public_key: Annotated[str, Field(pattern=PUBLIC_KEY)]
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Statement:
    """The content of a signed document: a verdict without its items, of a run under a fencing number, and the seals."""

    format: int
    run: int
    fence: int
    purpose: str
    verdict: PublicVerdict
    public_items_sha256: str
    private_items_sha256: str


def sign_verdict(verdict: Verdict, *, run: int, fence: int, purpose: str, key: "Ed25519PrivateKey") -> Signature:
    """Sign a verdict as that of a run. Raises PlatformError for a verdict with a number that is not finite."""
    salt = secrets.token_hex(16)
    try:
        document = signed(content_of(verdict, run=run, fence=fence, purpose=purpose, salt=salt), key)
    except ValueError as error:
        raise PlatformError("the verdict does not fit its run: it has a number that is not finite") from error
    return Signature(document["public_key"], salt, document["signature"])


def content_of(verdict: Verdict, *, run: int, fence: int, purpose: str, salt: str) -> dict[str, Any]:
    """Return the signed part of a verdict, as plain data."""
    shown = verdict.for_participants().to_json()
    if shown["public"] is not None:
        shown["public"]["items"] = {}
    public_items = verdict.public.items if verdict.public else {}
    private_items = verdict.private.items if verdict.private else {}
    return {
        "format": FORMAT,
        "run": run,
        "fence": fence,
        "purpose": purpose,
        "verdict": shown,
        "public_items_sha256": seal(salt, public_items),
        "private_items_sha256": seal(salt, private_items),
    }


def seal(salt: str, items: Items) -> str:
    """Return the SHA-256 of the scores of a part's items, by task, under a salt."""
    content = {"salt": salt, "items": {task: list(scores) for task, scores in items.items()}}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def check_document(document: Any, trusted: str) -> Statement:
    """Return the content of a signed document. Raises SubmissionError unless the `trusted` key has signed it."""
    content = checked(document, trusted)
    try:
        return _STATEMENT.validate_python(content)
    except ValidationError as error:
        raise SubmissionError(f"this is no worker's verdict: {first_problem(error)}") from error


def read_signed(path: Path, *, trusted: str | None, archive: Path | None) -> tuple[str, Statement]:
    """Read a signed verdict from a file; return the key that has signed it and its content.

    Without a `trusted` key that of the file counts. Raises SubmissionError for anything but a rightly signed
    verdict, and where it is of another submission than the `archive`.
    """
    try:
        content = strict_json(path.read_bytes(), str(path))
    except OSError as error:
        raise SubmissionError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    document = content.get("document", content) if isinstance(content, dict) else content
    if document is None:
        raise SubmissionError("this verdict is unsigned: it was judged before workers signed", where=str(path))
    own_key = document.get("public_key") if isinstance(document, dict) else ""
    public_key = trusted or str(own_key)
    statement = check_document(document, public_key)
    if archive is not None and read_archive(archive).digest != statement.verdict.submission:
        raise SubmissionError("the verdict is of another submission", where=str(archive))
    return public_key, statement


def content_in(statement: Statement) -> dict[str, Any]:
    """Return the content of a statement as plain data."""
    return dict(_STATEMENT.dump_python(statement, mode="json"))


_STATEMENT = TypeAdapter(Statement)
