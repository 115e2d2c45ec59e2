"""An archive as it was sent -> what the database keeps of it."""

import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

from cuvee.competition.refusals import Refusal
from cuvee.competition.submissions import Received
from cuvee.competition.what_is import name_of
from cuvee.documents.document import MAX_CHARACTERS
from cuvee.errors import CuveeError
from cuvee.submission.archive import parse_archive
from cuvee.submission.pack import MANIFEST, read_archive

PACK = "make archives with `cuvee submission pack`"


def opened(content: bytes, title: str, request_key: str) -> Received:
    """Read an archive that a stranger sent. Raises Refusal 'bad_archive' for one that cannot be judged."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "submission.tar"
        place.write_bytes(content)
        try:
            submission = read_archive(place)
            recipe, models = submission.recipe_text, references(submission.lock)
        except CuveeError as error:
            is_other = name_of(content)
            message = error.message if is_other is None else f"this is {is_other}, and no archive of a submission"
            raise Refusal("bad_archive", message, hint=PACK) from error
    if len(recipe) > MAX_CHARACTERS:
        raise Refusal(
            "bad_archive", f"the recipe has {len(recipe)} characters; recipes are read up to {MAX_CHARACTERS}"
        )
    if "\0" in recipe:
        raise Refusal("bad_archive", "the recipe holds a zero byte")
    return Received(content, recipe, models, title or submission.name, request_key)


def submission_digest(content: bytes) -> str:
    """Return the digest by which a verdict names the submission of an archive that was taken in: of its manifest."""
    files = parse_archive(io.BytesIO(content), "the archive")
    return hashlib.sha256(files[MANIFEST]).hexdigest()


def references(lock: Any) -> list[str]:
    """List the models that a lock names, for people to read: whether the lock is right is the judge's matter."""
    models = lock.get("models") if isinstance(lock, dict) else None
    if not isinstance(models, list):
        return []
    named = [model.get("reference") for model in models if isinstance(model, dict)]
    return [reference[:300].replace("\0", "") for reference in named if isinstance(reference, str)][:200]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
