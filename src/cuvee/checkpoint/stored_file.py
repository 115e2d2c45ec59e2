"""The digests that identify a file of an input: of its header, of samples, and of all of it where that is known.

| digest | is equal for |
|---|---|
| `header_blake3` | all models of the same shape, so every fine-tune of a base |
| `sampled_blake3` | files that are equal where they are sampled |
| `sha256` | equal files only |
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3


@dataclass(frozen=True)
class StoredFile:
    """A file that a model's tensors are in.

    `sha256` is None unless it is known without reading the file. `path` and `modified_ns` are None for a file that is
    not here. `sample` returns the fingerprint of sampled contents; it is None where the numbers are not at hand.
    """

    size: int
    header_blake3: str
    sha256: str | None = None
    path: Path | None = None
    modified_ns: int | None = None
    sample: Callable[[], str] | None = None

    @property
    def sampled_blake3(self) -> str | None:
        return self.sample() if self.sample is not None else None


Files = Mapping[str, StoredFile]
"""A model's files by name."""

Recorded = Mapping[str, Mapping[str, Any]]
"""A model's files as `cuvee.json` lists them."""


def recorded(files: Files) -> dict[str, dict[str, Any]]:
    """Return the entries of `cuvee.json` for a model's files. This reads the samples."""
    return {
        name: {
            "size": file.size,
            "header_blake3": file.header_blake3,
            "sampled_blake3": file.sampled_blake3,
            "sha256": file.sha256,
        }
        for name, file in files.items()
    }


def are_at_hand(files: Files) -> bool:
    """Say whether the numbers of all files can be read here."""
    return all(file.sample is not None for file in files.values())


def changed_files(before: Recorded, files: Files) -> Iterator[str]:
    """Name the files that are not those of a record, as far as that is known without reading more than samples.

    Digests that the record or the file lacks are not compared: samples of a file that is still on a hub, say.
    """
    for name in {**before, **files}:
        came_or_went = name not in before or name not in files
        if came_or_went or _differs(before[name], files[name]):
            yield name


def _differs(before: Mapping[str, Any], file: StoredFile) -> bool:
    if (before.get("size"), before.get("header_blake3")) != (file.size, file.header_blake3):
        return True
    if _disagree(before.get("sha256"), file.sha256):
        return True
    sampled = before.get("sampled_blake3")
    return sampled is not None and _disagree(sampled, file.sampled_blake3)


def _disagree(before: object, now: object) -> bool:
    return None not in (before, now) and before != now


def in_a_card(files: Recorded) -> str:
    """Tell a model from others of its shape in a few words of Markdown; nothing for a model without files.

    Of several files the digest is that of the lines that `sha256sum` writes of them, in the order of their names.
    """
    if not files:
        return ""
    hashes = {name: file["sha256"] for name, file in files.items()}
    if None not in hashes.values():
        return f"SHA-256 of {_named(files)} `{_joint(hashes, hashlib.sha256)}`"
    samples = {name: file["sampled_blake3"] for name, file in files.items()}
    if None not in samples.values():
        return f"fingerprint of sampled contents of {_named(files)} `{_joint(samples, blake3)[:16]}`"
    return ""


def _named(files: Recorded) -> str:
    names = sorted(files)
    if len(names) == 1:
        return f"`{names[0]}`"
    return f"its {len(names)} files, `{names[0]}` to `{names[-1]}`,"


def _joint(digests: Mapping[str, str], hashed: Callable[[bytes], Any]) -> str:
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    joint: str = hashed(lines.encode()).hexdigest()
    return joint
