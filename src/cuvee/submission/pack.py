"""Submissions as archives: a manifest that names every file by its SHA-256, the recipe, the lock, and further files.

submission.json   the manifest; its own SHA-256 is the submission's digest
recipe.yaml       the recipe as written, or a search space
lock.json         every model at a commit, with sizes and hashes of its files
claim.json        the participant's measurements: weights, predictions and scores (optional)
method/NAME.py    the participant's merge method (tier plugin)
program/...       the participant's program (tier program)
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cuvee.documents.checked import first_problem
from cuvee.errors import SubmissionError
from cuvee.submission.archive import DEFAULT, Limits, read_files, write_archive
from cuvee.submission.competition import Tier
from cuvee.version import __version__

FORMAT = 1
MANIFEST = "submission.json"
RECIPE = "recipe.yaml"
LOCK = "lock.json"
CLAIM = "claim.json"
PLUGIN_FOLDER = "method/"
PROGRAM_FOLDER = "program/"
MAX_JSON_DEPTH = 20


@dataclass(frozen=True)
class Manifest:
    """The submission's word of itself. `name` is its name on the board; `files` are SHA-256 by name."""

    name: str
    tier: Tier
    competition: str
    cuvee: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Submission:
    """An archive that was read: every file is as the manifest says, and nothing else is there."""

    manifest: Manifest
    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest, and through it of every file."""
        return hashlib.sha256(_manifest_bytes(self.manifest)).hexdigest()

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def tier(self) -> Tier:
        return self.manifest.tier

    @cached_property
    def recipe_text(self) -> str:
        """The recipe as written; nothing for a program."""
        try:
            return self.files.get(RECIPE, b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise SubmissionError("the recipe is not UTF-8", where=RECIPE) from error

    @cached_property
    def lock(self) -> Any:
        """The lock as plain data."""
        return strict_json(self.files[LOCK], LOCK)

    def with_recipe(self, text: str) -> "Submission":
        """Return the same submission with a recipe in the place of the search space that it was found in."""
        return replace(self, files={**self.files, RECIPE: text.encode()})

    @property
    def plugin(self) -> str | None:
        """The name of the method file, if the submission brings any."""
        return next((name for name in self.files if name.startswith(PLUGIN_FOLDER)), None)


def make_archive(name: str, tier: Tier, competition: str, files: Mapping[str, bytes]) -> bytes:
    """Return the archive of a submission of these files, the same bytes for the same content."""
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    manifest = Manifest(name, tier, competition, __version__, hashes)
    _check(manifest, files, "the submission")
    return write_archive({**files, MANIFEST: _manifest_bytes(manifest)})


def read_archive(path: Path | str, limits: Limits = DEFAULT) -> Submission:
    """Read and check an archive. Raises SubmissionError for a file that is hostile, damaged or not a submission."""
    place = Path(path)
    files = read_files(place, limits)
    where = str(place)
    if MANIFEST not in files:
        raise SubmissionError(f"there is no {MANIFEST}", where=where, hint="make archives with `cuvee submission pack`")
    written = files.pop(MANIFEST)
    manifest = _manifest(written, where)
    if _manifest_bytes(manifest) != written:
        raise SubmissionError(f"{MANIFEST} is not written as `pack` writes it", where=where)
    _check(manifest, files, where)
    return Submission(manifest, files)


def strict_json(data: bytes, where: str) -> Any:
    """Read JSON of at most MAX_JSON_DEPTH levels without NaN, repeated keys and half characters.

    Raises SubmissionError.
    """
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"not JSON: {str(error)[:200]}", where=where) from error
    if _deeper_than(found, MAX_JSON_DEPTH):
        raise SubmissionError(f"JSON of more than {MAX_JSON_DEPTH} levels", where=where)
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise SubmissionError(f"{where} holds half of a character: {half}", where=where) from error
    return found


def canonical_json(content: Any) -> bytes:
    """Write plain data in the form that digests are taken of."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is written twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _deeper_than(content: Any, levels: int) -> bool:
    if not isinstance(content, dict | list):
        return False
    inner = content.values() if isinstance(content, dict) else content
    return levels == 0 or any(_deeper_than(each, levels - 1) for each in inner)


class _ManifestDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Annotated[int, Field(ge=1)]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    tier: Tier
    competition: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    cuvee: Annotated[str, Field(max_length=50)]
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


def _manifest(written: bytes, where: str) -> Manifest:
    content = strict_json(written, where)
    version = content.get("format") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT:
        hint = "install a newer version of cuvee"
        raise SubmissionError(f"format {version} is newer than this version reads", where=where, hint=hint)
    try:
        found = _ManifestDocument.model_validate(content)
    except ValidationError as error:
        raise SubmissionError(f"{MANIFEST}: {first_problem(error)}", where=where) from error
    return Manifest(found.name, found.tier, found.competition, found.cuvee, dict(sorted(found.files.items())))


def _manifest_bytes(manifest: Manifest) -> bytes:
    return canonical_json({"format": FORMAT, **asdict(manifest)})


def _check(manifest: Manifest, files: Mapping[str, bytes], where: str) -> None:
    """Refuse what is not listed, what is listed and missing, what differs, and what the tier does not have."""
    if not manifest.name.isprintable() or manifest.name != manifest.name.strip():
        raise SubmissionError("the name has characters that cannot be shown", where=where)
    _check_listed(manifest, files, where)
    _check_tier(manifest.tier, files, where)


def _check_listed(manifest: Manifest, files: Mapping[str, bytes], where: str) -> None:
    """Refuse files that are not those of the manifest."""
    odd = sorted(manifest.files.keys() ^ files.keys())
    if odd:
        state = "not listed" if odd[0] in files else "missing"
        raise SubmissionError(f"'{odd[0]}' is {state}", where=where)
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != manifest.files[name]:
            raise SubmissionError(f"'{name}' is not what {MANIFEST} says", where=where)


def _check_tier(tier: Tier, files: Mapping[str, bytes], where: str) -> None:
    """Refuse files that the tier does not have, and a submission without those that it needs."""
    needed = (LOCK,) if tier == "program" else (RECIPE, LOCK)
    for name in needed:
        if name not in files:
            raise SubmissionError(f"there is no {name}", where=where)
    for name in files:
        if not _belongs(name, tier):
            raise SubmissionError(f"'{name}' does not belong in a submission of the tier '{tier}'", where=where)
    plugins = [name for name in files if name.startswith(PLUGIN_FOLDER)]
    if tier == "plugin" and len(plugins) != 1:
        raise SubmissionError(f"expected one file in {PLUGIN_FOLDER}, found {len(plugins)}", where=where)


def _belongs(name: str, tier: Tier) -> bool:
    if name in (RECIPE, LOCK, CLAIM):
        return True
    if tier == "plugin":
        is_at_the_top = name.startswith(PLUGIN_FOLDER) and name.count("/") == 1
        return is_at_the_top and name.endswith(".py")
    return tier == "program" and name.startswith(PROGRAM_FOLDER)
